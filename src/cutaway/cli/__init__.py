"""The command line: one small file a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False  # this file imports nothing that takes time: until `main` runs, Ctrl-C prints a traceback
if TYPE_CHECKING:
    from typing import Any

EXIT_DONE, EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 wrong use or bad input, 1 a failure, 130 interrupted."""
    try:
        from cutaway.cli.output import spell_for_terminal

        spell_for_terminal(sys.stdout)
        spell_for_terminal(sys.stderr)
        status = run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # before the verb began, or while its end was reported
        status = EXIT_INTERRUPTED
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """The exit status of `cutaway ARGUMENTS…`. Failures print one clear message; `--debug` shows the traceback."""
    debug = os.environ.get("CUTAWAY_DEBUG", "") not in ("", "0")
    try:
        # Where the locale is not UTF-8, Python decodes arguments with stand-ins for the bytes that it does not know.
        arguments = [os.fsencode(one).decode("utf-8") if not one.isascii() else one for one in arguments]
    except UnicodeError:
        _say("an argument is no UTF-8 text; write it in UTF-8, or run in a UTF-8 locale (LC_ALL=C.UTF-8).")
        return EXIT_BAD_INPUT
    own = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" in arguments[:own]:
        arguments.remove("--debug")
        debug = True
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        if debug:
            _traceback()
        _say("interrupted; what was whole is kept, nothing half-written is left")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) closed the pipe: nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        if debug:
            _traceback()
        status, message = _explain(error)
        _say(message if debug else message + _hint(status))
        return status


def _dispatch(arguments: list[str]) -> int:
    import typer

    from cutaway.cli.app import app

    try:
        result = app(arguments or ["--help"], standalone_mode=False, prog_name="cutaway")
    except typer.Abort as abort:
        raise KeyboardInterrupt from abort
    except typer.Exit as stop:
        result = stop.exit_code
    except Exception as wrong:
        # Wrong use. Typer's own exceptions have moved between its releases; what they have in common is this method.
        if not hasattr(wrong, "format_message"):
            raise
        _say(_usage(wrong))
        return EXIT_BAD_INPUT
    if result == EXIT_INTERRUPTED:  # how Typer hands on Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else EXIT_DONE


def _usage(wrong: Any) -> str:
    if type(wrong).__name__ == "NoArgsIsHelpError":
        return "name a verb:\n" + wrong.format_message()
    context = getattr(wrong, "ctx", None)
    path = context.command_path if context is not None else "cutaway"
    message = wrong.format_message().rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See: {path} --help"


def _explain(error: Exception) -> tuple[int, str]:
    from cutaway.core.errors import CutawayError, InputError

    if isinstance(error, InputError):
        return EXIT_BAD_INPUT, str(error)
    if isinstance(error, CutawayError):
        return EXIT_FAILURE, str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return EXIT_FAILURE, f"the disk is full{where}; nothing half-written is left. Free some room and run it again."
    if isinstance(error, PermissionError):
        return EXIT_BAD_INPUT, f"no permission to write or read {error.filename}."
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)):
        # libraries raise some of these with a message alone
        return EXIT_BAD_INPUT, f"{error.strerror}: {error.filename}" if error.strerror else f"{error}"
    return EXIT_FAILURE, f"{type(error).__name__}: {error}"


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _hint(status: int) -> str:
    return "" if status == EXIT_BAD_INPUT else "\n(--debug shows where it happened)"


def _say(message: str) -> None:
    print(f"cutaway: {message}", file=sys.stderr)
