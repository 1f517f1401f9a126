"""The list of live calls."""

from http_fakes import CALL, Site

from esl_record.recording.machine import State


def test_none(site: Site) -> None:
    assert site.get("/api/v1/calls").json == {"data": []}


def test_a_call_and_what_is_recorded_of_it(site: Site) -> None:
    site.place(caller_name='Ann "\u00e9" <b>')
    site.tell("calling.record", {"control_id": "c1", "audio": {"stereo": True, "direction": "both"}})
    site.recorders["c1"].become(State.PAUSED)
    (call,) = site.get("/api/v1/calls").json["data"]
    assert call.pop("created_at").endswith("Z")
    assert call == {
        "id": CALL,
        "from": "15550100",
        "from_name": 'Ann "\u00e9" <b>',
        "to": "7001",
        "direction": "inbound",
        "status": "answered",
        "type": "relay_sip_call",
        "recordings": [
            {
                "recording_id": site.recorders["c1"].recording.recording_id,
                "control_id": "c1",
                "state": "paused",
                "duration": 1.5,
                "started_at": "2024-01-02T03:04:05.250000Z",
                "format": "mp3",
                "direction": "both",
                "stereo": True,
            }
        ],
    }


def test_its_status_follows_the_call(site: Site) -> None:
    site.place()
    site.session.answered = False
    site.session.data = {}
    (call,) = site.get("/api/v1/calls").json["data"]
    assert (call["status"], call["direction"]) == ("created", "inbound")
    site.session.hangup_cause = "NORMAL_CLEARING"
    assert site.get("/api/v1/calls").json["data"][0]["status"] == "ended"
