"""References in a document's strings: what they become, and that what comes out is never looked into again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_document import within

from esl_record.errors import DocumentError
from esl_record.logs import one_line
from esl_record.swml.expressions import DEEPEST, LARGEST, condition, resolve, substitute, text_of

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
        "empty": "",
        "zero": 0,
        "none": [],
        "digits": "42#",
        "smile": "\U0001f600!",
        "request_response_headers": {"content-type": "text/plain", "age": "9", "x-amz-id-2": "7"},
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
    pytest.param("${request_response_headers.content-type}", "text/plain", id="a header"),
    pytest.param("<%{vars.request_response_headers.x-amz-id-2}>", "<7>", id="a header with its scope"),
    pytest.param("${request_response_headers.no-such}", "", id="a header that was not there"),
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


JAVASCRIPT = [
    pytest.param("${1+1}", 2, id="a sum"),
    pytest.param("%{1+1}", 2, id="percent is the same"),
    pytest.param("${number + 1}", 6, id="of a bare name"),
    pytest.param("${vars[n]}", 5, id="a computed name"),
    pytest.param("${vars['number']}", 5, id="a quoted name"),
    pytest.param("${name.toUpperCase()}", "FROM VARS", id="a method"),
    pytest.param("${number > 3 ? 'a' : 'b'}", "a", id="a choice"),
    pytest.param("${vars.number;}", 5, id="a statement"),
    pytest.param("${\nvars.number\n+ 1}", 6, id="lines"),
    pytest.param("${call.from.substring(0, 3)}", "+15", id="SignalWire's area code"),
    pytest.param("${list.map(x => x.b ?? x)}", ["a", "c"], id="a list"),
    pytest.param("${({a: {b: [1, null]}})}", {"a": {"b": [1, None]}}, id="an object"),
    pytest.param("is ${number > 3}", "is true", id="within text"),
    pytest.param("[${vars.missing ?? null}]", "[]", id="null within text"),
    pytest.param("${number}${number + 1}", "56", id="after a path"),
    pytest.param("${true}", True, id="a word of JavaScript"),
    pytest.param("${null}", None, id="null"),
    pytest.param("${Math.PI > 3}", True, id="an object of JavaScript"),
    pytest.param("${Number.MAX_SAFE_INTEGER}", 2**53 - 1, id="as a path"),
    pytest.param("${vars.list.length}", 2, id="the length of a list"),
    pytest.param("${digits.length}", 3, id="of text"),
    pytest.param("${request_response_headers.age-1}", 8, id="a header less a number"),
    pytest.param("${request_response_headers.age - number}", 4, id="less a variable"),
    pytest.param("${vars.request_response_headers.age -number}", 4, id="a blank is no part of a name"),
    pytest.param("${smile.length}", 3, id="as JavaScript counts"),
    pytest.param("${vars.empty.length}", 0, id="of none"),
    pytest.param("${digits[0]}", "4", id="a digit"),
    pytest.param("${vars.missing.length}", "", id="of what is not there"),
]


@pytest.mark.parametrize(("value", "expected"), JAVASCRIPT)
def test_what_is_no_path_is_javascript(value: str, expected: object) -> None:
    result = substitute(value, SCOPES)
    assert result == expected
    assert type(result) is type(expected)


NO_VALUES = [
    "${}",
    "${ }",
    "${vars.}",
    "${.vars}",
    "${vars..number}",
    "${vars.my-name}",
    "${vars.my name}",
    "${require('fs')}",
    "${process.exit()}",
    "${missing + 1}",
    "${9lives}",
    "${it's}",
    "${'}",
    "${`}",
    "${/[}",
    "${/*}",
    "${" + "a+" * 5000 + "a}",
]


@pytest.mark.parametrize("expression", NO_VALUES, ids=lambda text: ascii(text)[:30])
@pytest.mark.parametrize("around", ["{}", "say:{} and more"])
def test_what_has_no_value_is_refused_and_not_spoken(around: str, expression: str) -> None:
    with pytest.raises(DocumentError) as caught:
        substitute({"url": [around.replace("{}", expression)]}, SCOPES)
    assert caught.value.code == "relay_script_js_eval_error"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["${", "say ${{}", "%{number"])
def test_a_brace_that_never_closes_opens_nothing(text: str) -> None:
    assert text_of(substitute(text, SCOPES)) == text


BRACES = [
    pytest.param("(() => { return 1 })()", 1, id="a function"),
    pytest.param(" {a: 1}.a ", 1, id="an object"),
    pytest.param("'}'", "}", id="in quotes"),
    pytest.param('"{" + "}}"', "{}}", id="in double quotes"),
    pytest.param(r"'\'}'", "'}", id="an escaped quote"),
    pytest.param(r"'\\'+1", "\\1", id="an escaped backslash"),
    pytest.param("`${number}`", "5", id="a template"),
    pytest.param("`}${`{${'}'}`}{`", "}{}{", id="templates in one another"),
    pytest.param(r"`\`\${}}$`", "`${}}$", id="escapes in a template"),
    pytest.param("/[}/]/.test('}')", True, id="a regular expression"),
    pytest.param(r"'a}b'.replace(/\}/g, '{')", "a{b", id="an escaped brace in one"),
    pytest.param("8 / 2 /* } */ / 2", 2, id="divisions and a comment"),
    pytest.param("(8) / 2 + [4].length / 1", 5, id="after brackets"),
    pytest.param("number / 5 + '}/}'", "1}/}", id="a division and quotes"),
    pytest.param("1 // }\n + 1", 2, id="a comment to the end of the line"),
    pytest.param("typeof /}/", "object", id="a regular expression after a word"),
    pytest.param("'$' + '{' + number + '}'", "${5}", id="not looked into again"),
]


@pytest.mark.parametrize(("expression", "expected"), BRACES)
@pytest.mark.parametrize("sign", "$%")
def test_the_closing_brace_is_javascripts(sign: str, expression: str, expected: object) -> None:
    assert substitute(f"{sign}{{{expression}}}", SCOPES) == expected
    assert substitute(f"a{{{sign}{{{expression}}}}}${{number}}", SCOPES) == f"a{{{text_of(expected)}}}5"


def test_a_comment_that_hides_the_brace_is_not_taken_for_one() -> None:
    assert substitute("${vars.number //} and on", SCOPES) == "5 and on"


CONDITIONS = [
    ("true", True),
    ("false", False),
    ("1 == 1", True),
    ("call.type.toLowerCase() == 'sip'", True),
    ("vars.number > 5", False),
    ("number >= 5 && yes", True),
    ("vars.yes;", True),
    ("vars.number", True),
    ("${request_response_headers.content-type} == 'text/plain'", True),
    ("request_response_headers['content-type'] == 'text/plain'", True),
    ("vars.zero", False),
    ("vars.empty", False),
    ("vars.nothing", False),
    ("vars.none", True),
    ("vars.map", True),
    ("missing", False),
    ("vars.missing", False),
    ("vars.missing.deeper", False),
    ("!vars.missing", True),
    ("NaN || 0/0", False),
    ("null", False),
    ("undefined", False),
    ("'0'", True),
    ("() => 1", True),
    ("10n", True),
    ("globalThis;", True),
    ("${vars.number} == 5", True),
    ("%{number} == 6", False),
    ("${ call.type } === 'sip'", True),
    ("${vars.number} + ${vars.number} == 10", True),
    ("${number}/${number} == 1", True),
    ("${missing} == ''", True),
    ("${vars.yes}", True),
    ("${vars.none}", True),
    ("${number > 3}", True),
    ("${number > 3 ? {a: '}'} : null}.a == '}'", True),
    ("'${call.type}' == 'sip'", True),
    ('"%{call.type}!".length == 4', True),
    ("'${yes}' == 'true'", True),
    ("'a${name.toUpperCase()}b' == 'aFROM VARSb'", True),
    ("`${number}` == '5'", True),
    ("`%{number}` == '5'", False),
    ("'$' + '{number}' == ${number}", False),
    ("'it\\'s ${number}' == \"it's 5\"", True),
    ("/${number}/.test('x')", False),
    ("${vars.hostile} == '$' + '{vars.secret}'", True),
    ("'${vars.hostile}'.length == 14", True),
    ("[${vars.list}, 1].length == 2", True),
]


@pytest.mark.parametrize(("expression", "expected"), CONDITIONS)
def test_a_condition(expression: str, expected: bool) -> None:
    assert condition(expression, SCOPES) is expected


@pytest.mark.parametrize("expression", ["", " ", "missing == 1", "1 +", "${} == 1", "${missing + 1}", "}", "'", "a b"])
def test_a_condition_without_a_value_is_refused(expression: str) -> None:
    with pytest.raises(DocumentError) as caught:
        condition(expression, SCOPES)
    assert caught.value.code == "relay_script_js_eval_error"


@given(st.text())
def test_a_callers_text_in_a_condition_is_its_value_and_no_program(text: str) -> None:
    scopes = {"vars": {"x": text, "same": text}, "call": {"from_name": text}}
    for reference in ("${vars.x}", "%{x}", "${call.from_name}", "${vars.x.concat('')}", "'${x}'", '"${x}"', "`${x}`"):
        assert condition(f"{reference} === vars.same", scopes), reference
        assert condition(f"typeof {reference} == 'string' && {reference}.length == same.length", scopes), reference


@given(st.text(alphabet="${}%`'\"/\\*[]()ab.1 \n;+"), st.sampled_from(["{}", "${{{}}}", "'${{{}}}'", "x ${{{}}} y"]))
def test_any_text_is_a_value_or_a_refusal(text: str, around: str) -> None:
    for work in (substitute, condition, resolve):
        try:
            work(around.format(text), SCOPES)
        except DocumentError as error:
            refusal = error
        else:
            continue
        assert refusal.code == "relay_script_js_eval_error"
        assert one_line(str(refusal)) == str(refusal)


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


# ---- limits

TOO_MUCH = [
    pytest.param("${text}${text}", id="a text"),
    pytest.param(["${text}", {"a": "${text}"}], id="texts"),
    pytest.param(["${values}", ["${values}"]], id="values"),
    pytest.param({"a": "${deep}"}, id="depth"),
    pytest.param("${n}" * 1100, id="references"),
]


@pytest.mark.slow
@pytest.mark.parametrize("value", TOO_MUCH)
def test_a_value_that_grows_without_end_is_refused(value: object) -> None:
    deep: list[Any] = []
    for _ in range(DEEPEST):
        deep = [deep]
    large = {"text": "x" * (LARGEST // 2), "values": [1] * (LARGEST // 31), "deep": deep, "n": 1}
    with pytest.raises(DocumentError, match=f"more than {LARGEST} characters, or {DEEPEST} values within each other"):
        substitute(value, {"vars": large})


def test_a_step_has_only_so_many_expressions() -> None:
    with pytest.raises(DocumentError, match=f"more than {LARGEST} characters"):
        substitute(["${1 + 1}"] * 1100, {})


def test_a_value_that_is_large_is_none_too_large() -> None:
    text = "x" * (LARGEST - 5000)
    assert substitute("${a}!", {"vars": {"a": text}}) == text + "!"


@pytest.mark.parametrize(
    "repeated", ["${`}", "${/*}", "${/[}", "${`}${'}", "${/*}*/", "${`}'}", "${{}", "${", "${1+1}"]
)
def test_references_are_found_in_time_however_they_are_written(repeated: str) -> None:
    with within(2), pytest.raises(DocumentError):
        substitute("${1 +}" + repeated * 50_000, SCOPES)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1.5, "1.5"), (10**15, "1000000000000000"), ([1, "a"], '[1, "a"]'), ({"a": None}, '{"a": null}')],
)
def test_within_text_a_value_is_as_json_has_it(value: object, text: str) -> None:
    assert substitute("<${v}>", {"vars": {"v": value}}) == f"<{text}>"


def test_an_expression_has_an_end_and_so_have_the_references_of_a_condition() -> None:
    for expression in ("1+" * 250_000 + "1", "'" + "${a}" * 20_000 + "'"):
        with pytest.raises(DocumentError):
            condition(expression, {"vars": {"a": 1}})


def test_a_position_of_thousands_of_digits_is_a_number_too() -> None:
    assert substitute("${x[" + "0" * 5000 + "]}", {"vars": {"x": [7]}}) == 7
