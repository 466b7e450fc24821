"""The options of `watch` and `listen` about alarms."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auscult.detector.alarms import Rule
    from auscult.detector.outbox import Receiver
    from auscult.detector.output import Output

LAST_WAIT = 10.0
"""Seconds at the end for alarms that are not delivered yet."""


def alarm_options(parser: ArgumentParser, of: str) -> None:
    group = parser.add_argument_group(
        "alarms", "None unless one of these is given; docs/deploy.md describes the events."
    )
    group.add_argument(
        "--alarm", metavar="K/N", help=f"an alarm where K of the last N judged {of} are anomalous (default: 1/1)"
    )
    group.add_argument(
        "--hold", metavar="S", type=float,
        help="seconds for which that must not hold before an alarm is over, and another one can come (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--exec", metavar="COMMAND",
        help="run this for each alarm and its end: JSON on its standard input, AUSCULT_* variables",
    )  # fmt: skip
    group.add_argument(
        "--mqtt", metavar="URL",
        help="send each alarm and its end to mqtt://[user@]host[:port]/topic or mqtts://...; "
        "password: AUSCULT_MQTT_PASSWORD or AUSCULT_MQTT_PASSWORD_FILE",
    )  # fmt: skip


def alarm_setup(arguments: Namespace) -> tuple[Rule | None, list[Receiver]]:
    """The rule (None = no alarms wanted) and who is told, before anything slow.

    Raises:
        AuscultError: no such rule, command, address or file.
    """
    given = (arguments.alarm, arguments.hold, arguments.exec, arguments.mqtt)
    if all(each is None for each in given):
        return None, []
    from auscult.detector.alarms import Rule

    rule = Rule.of(arguments.alarm or "1/1", arguments.hold or 0.0)
    receivers: list[Receiver] = []
    if arguments.exec is not None:
        from auscult.detector.execute import Execute

        receivers.append(Execute(arguments.exec))
    if arguments.mqtt is not None:
        from auscult.detector.mqtt import Address, Mqtt

        receivers.append(Mqtt(Address.of(arguments.mqtt)))
    return rule, receivers


def say(line: str) -> None:
    """At once, also into a log."""
    print(line, flush=True)


@contextmanager
def followed_alarms(
    output: Output, rule: Rule | None, receivers: list[Receiver]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What is to be told of each line of an output. At the end, what is not delivered yet is waited for."""
    from auscult.detector.outbox import Alarms, beside

    if rule is None and not beside(output.path).exists():
        yield lambda row: None
        return
    alarms, wait = Alarms(output, rule, receivers, say), LAST_WAIT
    try:
        yield alarms.add
    except KeyboardInterrupt:  # the second one: at once
        wait = 0.0
        raise
    finally:
        alarms.close(wait)
