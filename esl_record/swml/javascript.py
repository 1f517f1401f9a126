"""JavaScript in documents: QuickJS inside WebAssembly, a new machine for each expression.

WebAssembly, since an engine within this process looks at its limits between its own steps only: one ``join`` or
``indexOf`` of QuickJS or V8 can take minutes. Here the instructions of QuickJS itself are counted, so the limits
hold for all it does and are the same on every run; nothing it breaks is outside its memory, and none of it outlives
the expression. Of the machine's surroundings it sees the clock and what it is given as JSON.

Sources: SignalWire's SWML reference, "Expressions" and "Variables"; quickjs-ng, ``qjs-wasi-reactor.c``; the
WASI preview 1 interface.
"""

import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, cast

import gevent
import wasmtime

from esl_record.errors import DocumentError
from esl_record.hub import off_hub
from esl_record.logs import one_line
from esl_record.swml.budget import Budget, engine

_FUEL = 100_000_000
"""Instructions an expression may take: some 10 ms, of which 0.5 ms are QuickJS's own beginning."""

_SHORT = 25_000_000
"""Instructions of a short expression: it has been worked out before those that are not go on."""

_MEMORY = 16 << 20
_LARGEST = 64 << 10
"""Characters of JSON a value may have; the variables together may have 16 times as many."""

_DEEPEST = 32
_MOST_CALLS = 1000
"""Times QuickJS may ask for the clock and the like, which costs time but no instructions of its own."""

_Function = Callable[..., int | None]
"""Of the operating system: called with the machine and numbers, gives 0 or WASI's number of an error."""

# All the program needs it takes before the expression runs, which may put what it likes in its place.
_PROGRAM = """{
  const write = print, {parse, stringify} = JSON, compile = Function, run = eval, text = String, Waiting = Promise;
  const {source, truth, scopes, references, largest} = parse(scriptArgs[0]);
  for (const name of ["print", "console", "scriptArgs", "argv0", "execArgv", "gc", "navigator", "performance",
                      "queueMicrotask"]) delete globalThis[name];
  for (const names of [scopes.call, scopes.envs, scopes.vars, scopes, {$references: references}])
    for (const name of Object.keys(names))
      try { Object.defineProperty(globalThis, name, {value: names[name], writable: true, configurable: true}); }
      catch {}  // undefined, NaN and Infinity stay what they are
  let answer;
  try {
    let expression, value;
    try { expression = compile("return (\\n" + source + "\\n)"); } catch {}
    value = expression ? expression() : run(source);
    if (truth) value = !!value;
    if (value === undefined) value = "";
    if (typeof value === "number" && value - value !== 0) throw "the value is " + value;
    if (value instanceof Waiting) throw "the value is a promise";
    const json = stringify(value);
    if (json === undefined) throw "the value is a " + typeof value;
    if (json.length > largest) throw "the value is too large";
    answer = "=" + json;
  } catch (error) {
    answer = "!" + text(error).slice(0, 200);
  }
  write(answer);
}"""

_TRAPS: dict[wasmtime.TrapCode | None, str] = {
    wasmtime.TrapCode.OUT_OF_FUEL: "it takes too long",
    wasmtime.TrapCode.STACK_OVERFLOW: "it goes too deep",
}


def evaluate(expression: str, scopes: Mapping[str, Mapping[str, Any]], budget: Budget | None = None) -> Any:
    """The value of ``expression`` as JSON has it: undefined is the empty string, a date text, NaN in a list None.

    ``vars``, ``envs``, ``call`` and ``params`` are objects in it; a bare name is looked for in ``vars``, ``envs``,
    ``call`` and then among JavaScript's own. Raises DocumentError for what cannot be read, throws, takes too long or
    too much, is beyond ``budget``, or has no value in JSON: NaN, infinity, a function, a BigInt, a promise, an object
    within itself. Raises CallGone as soon as the call is over.

    Done by a thread, while others run. To be called in the hub's own thread.
    """
    return _evaluate(expression, scopes, (), budget or Budget(), truth=False)


def truth(
    expression: str,
    scopes: Mapping[str, Mapping[str, Any]],
    references: Sequence[Any] = (),
    budget: Budget | None = None,
) -> bool:
    """Whether JavaScript takes ``expression`` for true; ``references`` is ``$references`` in it. Raises as evaluate."""
    return bool(_evaluate(expression, scopes, references, budget or Budget(), truth=True))


def prepare() -> None:
    """Makes the engine, off the hub: a second that the first expression need not wait for then. Later, nothing."""
    _engine()


def _evaluate(
    expression: str,
    scopes: Mapping[str, Mapping[str, Any]],
    references: Sequence[Any],
    budget: Budget,
    *,
    truth: bool,
) -> Any:
    if not expression.strip():
        raise _error(expression, "it is empty")
    with budget.waiting():
        machine = _engine()
    for fuel in (_SHORT, _FUEL):
        budget.check()
        work = partial(_worked_out, machine, expression, scopes, references, truth, fuel)
        value, error, used = engine.run(work, budget)
        budget.charge(used)
        if error is None:
            return value
        if used < fuel or fuel == _FUEL:
            raise error
        # One that is not short is begun anew, behind those of calls that have spent less.
    raise AssertionError("the last run gives a value or an error")


def _worked_out(
    machine: "_Engine",
    expression: str,
    scopes: Mapping[str, Mapping[str, Any]],
    references: Sequence[Any],
    truth: bool,
    fuel: int,
) -> tuple[Any, DocumentError | None, int]:
    """The value, or why there is none, and the instructions it took: ``fuel`` where that was too little."""
    try:
        task = json.dumps(
            {
                "source": expression,
                "truth": truth,
                "scopes": {name: dict(scopes.get(name, {})) for name in ("vars", "envs", "call", "params")},
                "references": references,
                "largest": _LARGEST,
            },
            allow_nan=False,
        )
    except (TypeError, ValueError, RecursionError, RuntimeError):
        # The last where the call is over, and its variables change.
        return None, _error(expression, "a variable has no value in JSON"), 0
    if len(task) > 16 * _LARGEST:
        return None, _error(expression, "it is too large, or its variables are"), 0
    try:
        printed = machine.run(fuel, b"qjs", b"-e", _PROGRAM.encode(), task.encode())
        answer = printed.decode(errors="replace").removesuffix("\n")
        if answer.startswith("="):
            return _plain(json.loads(answer[1:]), 0), None, machine.used
        reason = answer[1:] or "it takes too much"
    except wasmtime.Trap as trap:
        reason = _TRAPS.get(trap.trap_code, "the engine broke off")
        if trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
            return None, _error(expression, reason), fuel
    except (wasmtime.WasmtimeError, _LimitError, RecursionError, ValueError, LookupError, struct.error):
        reason = "it takes too much, or goes too deep"
    return None, _error(expression, reason), min(machine.used, fuel - 1)


def _error(expression: str, reason: str) -> DocumentError:
    return DocumentError("relay_script_js_eval_error", f"JavaScript {_short(expression, 80)}: {_short(reason, 120)}")


def _short(text: str, length: int) -> str:
    return one_line(text[:length].encode("utf-8", "backslashreplace").decode())[:length]


def _plain(value: Any, depth: int) -> Any:
    """``value`` with halves of characters replaced: they can be put on no wire. Raises _LimitError."""
    if depth > _DEEPEST:
        raise _LimitError
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_plain(key, depth): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return value


class _LimitError(Exception):
    """More than an expression may have or do."""


class _Engine:
    """QuickJS, compiled once. Everything else is made anew for each run."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.consume_fuel = True
        config.cranelift_opt_level = "none"  # compiles in half the time, and QuickJS is as fast
        config.memory_reservation = _MEMORY  # of addresses, instead of 4 GiB a run
        config.memory_reservation_for_growth = 0
        config.memory_guard_size = 0
        config.signals_based_traps = False  # handlers of signals are the process's own, faulthandler's perhaps
        self._engine = wasmtime.Engine(config)
        # The project's own build, in a package without code.
        path = files("qjs-wasi-reactor").joinpath("qjs-wasi-reactor.wasm")
        module = wasmtime.Module(self._engine, path.read_bytes())
        linker = wasmtime.Linker(self._engine)
        for wanted in module.imports:
            function, kind = self._function(wanted.name or ""), cast(wasmtime.FuncType, wanted.type)
            linker.define_func(wanted.module, wanted.name or "", kind, function, access_caller=True)
        self._ready = linker.instantiate_pre(module)
        self._written = bytearray()
        self._calls = 0
        self.used = 0
        """Instructions the last run took."""

    def run(self, fuel: int, *arguments: bytes) -> bytes:
        """What QuickJS prints when it is called with ``arguments`` and may take ``fuel`` instructions.

        Raises wasmtime's errors, and _LimitError.
        """
        self._written, self._calls, self.used = bytearray(), 0, 0
        store = wasmtime.Store(self._engine)
        store.set_fuel(fuel)
        try:
            store.set_limits(memory_size=_MEMORY)
            exports = self._ready.instantiate(store).exports(store)

            def call(name: str, *values: int) -> Any:
                return cast(wasmtime.Func, exports[name])(store, *values)

            call("_initialize")
            table = 4 * (len(arguments) + 1)
            at = call("malloc", table + sum(len(argument) + 1 for argument in arguments))
            if not at:
                raise _LimitError
            places, end = [], at + table
            for argument in arguments:
                places.append(end)
                end += len(argument) + 1
            data = struct.pack(f"<{len(places)}II", *places, 0) + b"\0".join(arguments) + b"\0"
            cast(wasmtime.Memory, exports["memory"]).write(store, data, at)
            call("qjs_init_argv", len(arguments), at)
            return bytes(self._written)
        finally:
            self.used = fuel - store.get_fuel()
            store.close()

    def _function(self, name: str) -> _Function:
        """What stands for ``name`` of the operating system: for most, that there is no such file."""
        known: dict[str, _Function] = {
            "clock_time_get": self._clock,
            "environ_sizes_get": self._environment,
            "fd_write": self._write,
            "proc_exit": _nothing,
        }
        function: _Function = known.get(name, _no_file)

        def counted(caller: wasmtime.Caller, *values: int) -> int | None:
            self._calls += 1
            if self._calls > _MOST_CALLS:
                raise _LimitError
            return function(caller, *values)

        return counted

    @staticmethod
    def _clock(caller: wasmtime.Caller, _clock: int, _precision: int, at: int) -> int:
        cast(wasmtime.Memory, caller["memory"]).write(caller, struct.pack("<Q", time.time_ns()), at)
        return 0

    @staticmethod
    def _environment(caller: wasmtime.Caller, count: int, size: int) -> int:
        memory = cast(wasmtime.Memory, caller["memory"])
        memory.write(caller, bytes(4), count)
        memory.write(caller, bytes(4), size)
        return 0

    def _write(self, caller: wasmtime.Caller, file: int, pieces: int, count: int, written: int) -> int:
        memory, total = cast(wasmtime.Memory, caller["memory"]), 0
        if count > _MOST_CALLS:
            raise _LimitError
        for at in range(pieces, pieces + 8 * count, 8):
            start, length = struct.unpack("<II", memory.read(caller, at, at + 8))
            total += length
            if file == 1:
                self._written += memory.read(caller, start, start + length)
        if len(self._written) > 8 * _LARGEST:
            raise _LimitError
        memory.write(caller, struct.pack("<I", total), written)
        return 0


def _no_file(*_: Any) -> int:
    return 8


def _nothing(*_: Any) -> None:
    pass


_makers: list[gevent.Greenlet] = []


def _engine() -> _Engine:
    """The engine of this process. It is made once, whatever becomes of the greenlets that wait for it."""
    if not _makers or _makers[-1].exception is not None:
        _makers.append(gevent.spawn(off_hub, _Engine))
    engine: _Engine = _makers[-1].get()
    return engine
