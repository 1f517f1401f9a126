"""References in a document's strings: what they become, and that what comes out is never looked into again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.errors import DocumentError
from esl_record.swml.expressions import substitute

SCOPES: dict[str, dict[str, Any]] = {
    "vars": {
        "number": 5,
        "half": 0.5,
        "yes": True,
        "nothing": None,
        "list": ["a", {"b": "c"}],
        "map": {"inner": {"deep": "found"}},
        "name": "from vars",
        "hostile": "${vars.secret}",
        "secret": "hidden",
        "ends": "${vars.",
        "n": "number",
    },
    "envs": {"name": "from envs", "stage": "test"},
    "call": {"from": "+15550100", "name": "from call", "type": "sip"},
    "params": {"topic": "billing"},
}

RESULTS = [
    pytest.param("${vars.number}", 5, id="a number stays one"),
    pytest.param("${half}", 0.5, id="a fraction"),
    pytest.param("${vars.yes}", True, id="a truth"),
    pytest.param("${vars.nothing}", None, id="null"),
    pytest.param("${vars.list}", ["a", {"b": "c"}], id="a list"),
    pytest.param("${vars.map}", {"inner": {"deep": "found"}}, id="a mapping"),
    pytest.param("%{vars.number}", 5, id="percent is the same"),
    pytest.param("${ vars.number }", 5, id="spaces inside"),
    pytest.param("n=${vars.number}", "n=5", id="within text a number is text"),
    pytest.param("${number}${half}", "50.5", id="two references"),
    pytest.param("is ${yes}", "is true", id="a truth as the document writes it"),
    pytest.param("[${nothing}]", "[]", id="null within text is empty"),
    pytest.param("${vars.list[0]}", "a", id="an index"),
    pytest.param("${vars.list[1].b}", "c", id="and on"),
    pytest.param("${map.inner.deep}", "found", id="a path without a scope"),
    pytest.param("${name}", "from vars", id="vars come first"),
    pytest.param("${stage}", "test", id="then envs"),
    pytest.param("${type}", "sip", id="then call"),
    pytest.param("${topic}", "", id="params only by name"),
    pytest.param("${params.topic}", "billing", id="as here"),
    pytest.param("${call.name}", "from call", id="a scope by name"),
    pytest.param("${vars}", SCOPES["vars"], id="a whole scope"),
    pytest.param("${missing}", "", id="no value"),
    pytest.param("<${vars.missing.deeper[3]}>", "<>", id="no value on the way"),
    pytest.param("${vars.list[2]}", "", id="past the end"),
    pytest.param("${vars.list.a}", "", id="a name in a list"),
    pytest.param("${vars.number.real}", "", id="no attribute of Python's"),
    pytest.param("${vars.__class__}", "", id="nor this one"),
    pytest.param("${vars.list[" + "9" * 5000 + "]}", "", id="an absurd index"),
    pytest.param("plain", "plain", id="plain text"),
    pytest.param("$5 {a} 100% $ {vars.number}", "$5 {a} 100% $ {vars.number}", id="no reference"),
    pytest.param(7, 7, id="no string"),
    pytest.param({"a": ["${number}", {"b": "x${half}"}]}, {"a": [5, {"b": "x0.5"}]}, id="containers"),
]


@pytest.mark.parametrize(("value", "expected"), RESULTS)
def test_a_reference_becomes_what_it_refers_to(value: object, expected: object) -> None:
    result = substitute(value, SCOPES)
    assert result == expected
    assert type(result) is type(expected)


NO_PATHS = [
    "${1+1}",
    "${number + 1}",
    "${}",
    "${ }",
    "${vars.}",
    "${.vars}",
    "${vars..number}",
    "${vars[number]}",
    "${vars['number']}",
    "${vars.my-name}",
    "${name.toUpperCase()}",
    "${require('fs')}",
    "${process.exit()}",
    "${number > 3 ? 'a' : 'b'}",
    "${vars.number;}",
    "${\nvars.number\n.x y}",
    "%{1+1}",
    "${9lives}",
    "${" + "a+" * 5000 + "a}",
]


@pytest.mark.parametrize("expression", NO_PATHS, ids=lambda text: ascii(text)[:30])
@pytest.mark.parametrize("around", ["{}", "say:{} and more"])
def test_what_is_no_plain_path_is_refused(around: str, expression: str) -> None:
    with pytest.raises(DocumentError) as caught:
        substitute({"url": [around.replace("{}", expression)]}, SCOPES)
    assert caught.value.code == "relay_script_js_eval_error"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("expression", ["${(() => { return 1 })()}", "${ {a: 1}.a }", "${`${number}`}"])
def test_javascript_with_braces_is_refused_and_not_spoken(expression: str) -> None:
    with pytest.raises(DocumentError) as caught:
        substitute(expression, SCOPES)
    assert caught.value.code == "relay_script_js_eval_error"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${vars.hostile}", "${vars.secret}"),
        ("say:${vars.hostile}", "say:${vars.secret}"),
        ("${ends}${n}}", "${vars.number}"),
        ("%{hostile}%{hostile}", "${vars.secret}${vars.secret}"),
    ],
)
def test_what_was_put_in_is_not_looked_into_again(value: str, expected: str) -> None:
    assert substitute(value, SCOPES) == expected


@given(st.text())
def test_a_callers_text_comes_through_as_it_is(text: str) -> None:
    scopes = {"call": {"from_name": text}, "vars": {"secret": "hidden"}}
    assert substitute("<${call.from_name}>", scopes) == f"<{text}>"
    assert substitute("%{from_name}", scopes) == text


@given(st.text().filter(lambda text: "${" not in text and "%{" not in text))
def test_text_without_a_reference_stays_as_it_is(text: str) -> None:
    assert substitute(text, SCOPES) == text


def test_the_document_itself_is_left_as_it_was() -> None:
    params = {"urls": ["${name}"], "deep": {"x": "${number}"}}
    substitute(params, SCOPES)
    assert params == {"urls": ["${name}"], "deep": {"x": "${number}"}}
