"""JavaScript in documents: its values, and that nothing it does goes on, gets out or stays behind."""

import gc
import json
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.errors import DocumentError
from esl_record.logs import one_line
from esl_record.swml import javascript
from esl_record.swml.javascript import evaluate, truth

SCOPES: dict[str, dict[str, Any]] = {
    "vars": {"a": 1, "half": 0.5, "text": "say", "list": [1, {"b": None}], "n": "vars", "vars": "no", "JSON": "no"},
    "envs": {"n": "envs", "e": "env"},
    "call": {"n": "call", "e": "call", "from": "+15550100", "type": "sip"},
    "params": {"p": "given"},
}

LONGEST = 0.1
"""Seconds of this thread's own work: what others do on the machine is not counted."""


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    javascript.prepare()


def refused(expression: str, scopes: dict[str, dict[str, Any]] = SCOPES) -> str:
    """What is said of ``expression``."""
    before = time.thread_time()
    with pytest.raises(DocumentError) as caught:
        evaluate(expression, scopes)
    assert time.thread_time() - before < LONGEST
    return looked_at(caught.value)


def looked_at(error: DocumentError) -> str:
    """Its message."""
    message = str(error)
    assert error.code == "relay_script_js_eval_error"
    assert len(message.encode()) < 1000
    assert len(message) < 250
    assert one_line(message) == message
    return message


# ---- values

VALUES = [
    ("1 + 1", 2),
    ("0.1 + 0.2", 0.1 + 0.2),
    ("10 * half", 5),
    ("1e300", 1e300),
    ("2 ** 53", 2**53),
    ("-0", 0),
    ("true", True),
    ("null", None),
    ("undefined", ""),
    ("vars.missing", ""),
    ("'a' + text", "asay"),
    ("'\\ud83d\\ude00 ' + '\\ud83d\\ude00'[0]", "\U0001f600 \ufffd"),
    ("({['\\ud83d']: ['\\udc00']})", {"\ufffd": ["\ufffd"]}),
    ("'\\0\\n\\u2028</script>'", "\0\n\u2028</script>"),
    ("[1, , undefined, NaN, () => 1]", [1, None, None, None, None]),
    ("({a: 1, b: undefined, c() {}})", {"a": 1}),
    ("({toJSON() { return {x: 1} }})", {"x": 1}),
    ("JSON.parse === undefined", True),  # the variable of that name
    ("new Date(0)", "1970-01-01T00:00:00.000Z"),
    ("new Map([[1, 2]])", {}),
    ("/x/", {}),
    ("new Number(5)", 5),
    ("list", [1, {"b": None}]),
    ("n", "vars"),
    ("e", "env"),
    ("type", "sip"),
    ("typeof p", "undefined"),
    ("params.p", "given"),
    ("vars.n + envs.n + call.n", "varsenvscall"),
    ("call.from.substring(0, 3)", "+15"),
    ("let x = 2; x * 3", 6),
    ("for (var i = 0; i < 5; i++) i * 2", 8),
    ("if (a) { 'yes' } else { 'no' }", "yes"),
    ("{a: 2}.a", 2),
    ("{}", {}),
    ("1 // one", 1),
    ("`${a}${`${text}`}`", "1say"),
    ("(() => { try { missing } catch (e) { return e.name } })()", "ReferenceError"),
    ("/(?<y>\\d{4})/.exec('in 2024').groups.y", "2024"),
    ("[...'abc'].reverse().join('')", "cba"),
    ("Object.groupBy([1, 2], x => x % 2 ? 'odd' : 'even')", {"odd": [1], "even": [2]}),
    ("typeof Math.random()", "number"),
    ("Date.now() > 1.7e12", True),
    ("eval('1 + a')", 2),
    ("new Function('return a')()", 1),
    ("a = 5, vars.a", 1),
    ("undefined = 3, undefined", ""),
    ("'x'.repeat(65534).length", 65534),
]


@pytest.mark.parametrize(("expression", "expected"), VALUES, ids=lambda value: ascii(value)[:40])
def test_a_value(expression: str, expected: object) -> None:
    result = evaluate(expression, SCOPES)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("0", False), ("''", False), ("NaN", False), ("[]", True), ("'0'", True), ("() => 1", True), ("0n", False)],
)
def test_a_truth(expression: str, expected: bool) -> None:
    assert truth(expression, {}) is expected


def test_scopes_that_are_not_given_are_empty() -> None:
    assert evaluate("[vars, envs, call, params]", {}) == [{}, {}, {}, {}]


def test_what_went_in_is_left_as_it_was() -> None:
    scopes = {"vars": {"list": [1]}}
    assert evaluate("(list.push(2), vars.list = 0, list)", scopes) == [1, 2]
    assert scopes == {"vars": {"list": [1]}}


REASONS = [
    ("", "empty"),
    (" \n", "empty"),
    ("1 +", "SyntaxError"),
    ("1)+(1)+(", "SyntaxError"),
    ("}) + ({", "SyntaxError"),
    ("missing", "ReferenceError: missing is not defined"),
    ("vars.missing.x", "TypeError"),
    ("throw 'no\\n\\x1b[31m way'", "no"),
    ("throw new Error('x'.repeat(1e6))", "Error: xxx"),
    ("throw {toString() { throw 1 }}", ""),
    ("() => 1", "function"),
    ("Symbol()", "symbol"),
    ("10n", "BigInt"),
    ("NaN", "NaN"),
    ("-1/0", "-Infinity"),
    ("Promise.resolve(1)", "promise"),
    ("(async () => 1)()", "promise"),
    ("(() => { let a = {}; a.a = a; return a })()", "circular"),
    ("({get a() { throw new Error('got') }})", "got"),
    ("({toJSON() { throw new Error('got') }})", "got"),
    ("'x'.repeat(1e9)", "out of memory"),
    ("'x'.repeat(1e5)", "too large"),
    ("new Array(4e4).fill(1)", "too large"),
    ("'['.repeat(50) && eval('['.repeat(50) + ']'.repeat(50))", "too deep"),
]


@pytest.mark.parametrize(("expression", "reason"), REASONS, ids=lambda text: ascii(text)[:40])
def test_what_has_no_value_says_why(expression: str, reason: str) -> None:
    assert reason in refused(expression)


@pytest.mark.parametrize("value", [float("nan"), b"bytes", {1, 2}, object()])
def test_a_variable_that_json_cannot_hold(value: object) -> None:
    assert "variable" in refused("1", {"vars": {"x": value}})


def test_variables_within_themselves() -> None:
    within: list[Any] = []
    within.append(within)
    assert "variable" in refused("1", {"vars": {"x": within}})


def test_variables_beyond_measure() -> None:
    assert "too large" in refused("1", {"vars": {"x": "x" * 2_000_000}})
    assert evaluate("x.length", {"vars": {"x": "x" * 1_000_000}}) == 1_000_000


# ---- limits

ENDLESS = [
    "for (;;);",
    "(() => { for (;;) { try { for (;;); } catch {} finally { continue } } })()",
    "/^(a+)+$/.test('a'.repeat(40) + 'b')",
    "'x'.repeat(1e9)",
    "'x'.repeat(2 ** 30 - 1)",
    "(function f() { return f() + 1 })()",
    "(() => { for (;;) { try { (function f() { f() })() } catch {} } })()",
    "(() => { const a = []; for (;;) a.push('x'.repeat(1000) + a.length) })()",
    "(() => { for (;;) { try { const a = []; for (;;) a.push('x'.repeat(1e4) + a.length) } catch {} } })()",
    "new Array(1e9).fill(0)",
    "'a'.repeat(1e6).indexOf('a'.repeat(5e5) + 'b')",
    "(() => { let x = 3n; for (;;) x = x * x })()",
    "(7n ** 300000n).toString().length",
    "Array.from({length: 3e5}, (_, i) => i * 7919 % 300007).sort()",
    "new Array(3e5).fill(1).join('abcdefgh')",
    "(() => { const a = []; a.length = 4294967295; return a.join('') })()",
    "(() => { const a = []; a[4294967294] = 1; return a.reverse() })()",
    "(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return String(a) })()",
    "(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a })()",
    "(" * 20_000 + "1" + ")" * 20_000,
    "new RegExp('('.repeat(5e4) + ')'.repeat(5e4))",
    "'a'.repeat(1e5).replaceAll('a', 'b'.repeat(1e5))",
    "(() => { const a = new Uint8Array(4e6); for (;;) a.fill(1) })()",
    "Array.prototype.indexOf.call({length: 9007199254740991}, 1)",
    "'\\u1e9b\\u0323'.repeat(3e5).normalize('NFKD')",
    "(() => { for (;;) Date.now() })()",
    "(() => { for (;;) new Date() })()",
    "new Proxy({}, {ownKeys() { for (;;); }})",
    "({toJSON() { for (;;); }})",
    "({get a() { for (;;); }})",
    "throw {toString() { for (;;); }}",
    "Object.defineProperty(Object.prototype, 'then', {get() { for (;;); }}), Promise.resolve({})",
    "eval('for (;;);')",
    "(() => { function* g() { for (;;) yield 1 } return [...g()] })()",
    "a" + "+a" * 400_000,
    "var " + ",".join(f"v{i}" for i in range(50_000)) + "; 1n",
]


@pytest.mark.parametrize("expression", ENDLESS, ids=lambda text: ascii(text)[:50])
def test_the_limits_hold(expression: str) -> None:
    refused(expression)
    assert evaluate("1 + 1", {}) == 2


def test_the_limits_are_the_same_on_every_run() -> None:
    expression = "(() => { for (let i = 0; i < 1e5; i++); return 1 })()"
    assert [evaluate(expression, {}) for _ in range(3)] == [1, 1, 1]
    assert len({refused("(() => { for (let i = 0; ; i++); })()") for _ in range(3)}) == 1


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_no_memory_stays_behind() -> None:
    def some() -> None:
        for _ in range(100):
            evaluate("text + list", SCOPES)
        for _ in range(5):
            refused("(() => { const a = []; for (;;) a.push('x'.repeat(1000) + a.length) })()")
        gc.collect()

    some()
    before = resident()
    some()
    some()
    assert resident() - before < 8 << 20


def test_an_expression_costs_little() -> None:
    taken = []
    for _ in range(50):
        before = time.thread_time()
        evaluate("vars.a + 1", SCOPES)
        taken.append(time.thread_time() - before)
    assert sorted(taken)[25] < 0.005


# ---- nothing gets out, nothing stays


@pytest.mark.parametrize(
    "name",
    [
        "require",
        "process",
        "std",
        "os",
        "print",
        "console",
        "scriptArgs",
        "fetch",
        "setTimeout",
        "Deno",
        "load",
        "task",
    ],
)
def test_there_is_nothing_to_get_out_by(name: str) -> None:
    assert evaluate(f"typeof {name}", {}) == "undefined"


@pytest.mark.parametrize("module", ["qjs:std", "qjs:os", "fs", "./x.js", "/etc/passwd", "http://127.0.0.1/"])
def test_no_module_is_read(module: str) -> None:
    expression = f"import('{module}').then(m => {{ m.out.puts('=1'); globalThis.got = m }}), typeof got"
    assert evaluate(expression, {}) == "undefined"


def test_nothing_stays_from_one_expression_to_the_next() -> None:
    everything = """
        Object.prototype.left = Array.prototype.left = String.prototype.left = globalThis.left = 1;
        Object.prototype.toJSON = () => 'mine';
        Object.defineProperty(Object.prototype, 'vars', {get() { return 'stolen' }, set() {}});
        Function.prototype.call = Array.prototype[Symbol.iterator] = () => { throw 'broken' };
        globalThis.JSON = Object.keys = Object.defineProperty = eval = () => '"forged"';
        String = Promise = Function = Object = undefined;
        1"""
    assert evaluate(everything, SCOPES) == 1
    assert evaluate(everything + "; ({a: 1})", SCOPES) == "mine"
    refused(everything + "; for (;;);")
    names = "[typeof left, [].left ?? 0, ''.left ?? 0, vars.a, ({}).vars ?? 0, ({a: [1]})]"
    assert evaluate(names, SCOPES) == ["undefined", 0, 0, 1, 0, {"a": [1]}]


def test_a_name_that_means_something_to_javascript_is_a_name() -> None:
    text = '{"__proto__": {"left": 1}, "constructor": 2, "toString": 3, "eval": 4, "undefined": 5, "$references": 6}'
    scopes = {"vars": json.loads(text), "call": {"__proto__": {"left": 1}}}
    assert evaluate("[typeof left, ({}).left ?? 0, vars.left ?? 0, vars.__proto__.left]", scopes) == [
        "undefined",
        0,
        0,
        1,
    ]
    assert evaluate("vars", scopes) == scopes["vars"]
    assert evaluate("[typeof undefined, eval, constructor]", scopes) == ["undefined", 4, 2]


ODD = [
    "'",
    '"',
    "`",
    "${1}",
    "\\",
    "\\u0000",
    "</script>",
    "<!--",
    "-->",
    "*/",
    "//",
    "\n",
    "\u2028",
    "\0",
    "\ud800",
    "__proto__",
    "'+(()=>{for(;;);})()+'",
    '"]});for(;;);//',
    "-e",
]


@given(st.text() | st.lists(st.sampled_from(ODD)).map("".join))
def test_a_callers_text_is_its_value_and_nothing_else(text: str) -> None:
    well_formed = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    scopes: dict[str, dict[str, Any]] = {"vars": {"x": text, "list": [text]}, "call": {"from_name": text}}
    result = evaluate("[vars.x, x, from_name, list[0], x === from_name, typeof x, 1 + 1]", scopes)
    assert result == [well_formed, well_formed, well_formed, well_formed, True, "string", 2]


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"))
        | st.sampled_from(["constructor", "__proto__", "toJSON", "length", "then", "vars", "call", "evaluate"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_any_variables_come_through_and_change_nothing_else(names: dict[str, Any]) -> None:
    result = evaluate("[Object.keys(params).length, params, 1 + 1]", {"params": names, "call": {"a": names}})
    assert result == [len(names), names, 2]


@given(
    st.text() | st.lists(st.sampled_from([*ODD, "vars", "a", "(", ")", "{", "}", "+", "=", "1", ";", "."])).map("".join)
)
def test_any_text_is_a_value_or_an_error_in_time(text: str) -> None:
    before = time.thread_time()
    try:
        json.dumps(evaluate(text, SCOPES), allow_nan=False).encode()
    except DocumentError as error:
        looked_at(error)
    assert time.thread_time() - before < LONGEST


# ---- the hub


def test_the_engine_is_made_once_and_off_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javascript, "_makers", [])
    callers = [gevent.spawn(evaluate, "1 + 1", {}) for _ in range(3)]
    turns = 0
    while not all(caller.ready() for caller in callers):
        gevent.idle()
        turns += 1
    assert [caller.get() for caller in callers] == [2, 2, 2]
    assert len(javascript._makers) == 1
    assert turns > 10


def test_who_is_killed_while_waiting_for_the_engine_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javascript, "_makers", [])
    waiting = gevent.spawn(javascript.prepare)
    gevent.idle()
    waiting.kill()
    assert evaluate("1 + 1", {}) == 2
    assert len(javascript._makers) == 1
