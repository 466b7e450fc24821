"""k of n and hold against a definition that is written down the slow way, and what a restart makes of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from auscult.detector.alarms import MOST, Alarm, Event, Judgement, Rule
from auscult.detector.journal import Journal
from auscult.detector.outbox import Alarms, Outbox, beside
from auscult.errors import AuscultError

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def brute_force(heard: Sequence[bool], seconds: Sequence[float], k: int, n: int, hold: float) -> list[tuple[int, str]]:
    """(judgement, event): what holds is counted anew for each; quiet lasts since the last judgement at which it held."""
    holds = [sum(heard[max(0, i + 1 - n) : i + 1]) >= k for i in range(len(heard))]
    events: list[tuple[int, str]] = []
    for i in range(len(heard)):
        on = bool(events) and events[-1][1] == "raised"
        if holds[i] and not on:
            events.append((i, "raised"))
        if not holds[i] and on:
            first = max(j for j in range(i + 1) if holds[j]) + 1
            if seconds[i] - seconds[first] >= hold:
                events.append((i, "cleared"))
    return events


def judgements(heard: Sequence[bool], seconds: Sequence[float]) -> list[Judgement]:
    times = [(BEGIN + timedelta(seconds=each)).isoformat() for each in seconds]
    return [
        Judgement(each, f"{i}.wav", 0.0, float(heard[i]), 0.5, heard[i], "pump", "") for i, each in enumerate(times)
    ]


def test_against_a_brute_force_version() -> None:
    draw, kinds, most = random.Random(1), set[str](), 0
    for _ in range(400):
        count, n = draw.randrange(1, 80), draw.randrange(1, 9)
        k, hold, share = draw.randrange(1, n + 1), draw.choice([0, 0.5, 5, 60]), draw.random()
        heard = [draw.random() < share for _ in range(count)]
        seconds = [0.25 * each for each in sorted(draw.randrange(0, 40 * count) for _ in range(count))]
        alarm = Alarm(Rule(k, n, hold))
        found = [alarm.add(each, i) for i, each in enumerate(judgements(heard, seconds))]
        events = [(i, each["event"]) for i, each in enumerate(found) if each]
        assert events == brute_force(heard, seconds, k, n, hold), (heard, seconds, k, n, hold)
        assert (alarm.on is not None) == (bool(events) and events[-1][1] == "raised")
        kinds, most = kinds | {kind for _, kind in events}, max(most, len(events))
        for i, each in enumerate(found):
            if each and each["event"] == "raised":
                names = [f"{j}.wav" for j in range(max(0, i + 1 - n), i + 1) if heard[j]]
                assert [one["file"] for one in each["recordings"]] == names
                assert (each["anomalous"], each["of"]) == (len(names), min(n, i + 1))
    assert kinds == {"raised", "cleared"}
    assert most > 10


def test_no_two_alarms_come_closer_than_they_are_held() -> None:
    draw = random.Random(2)
    seconds = sorted(draw.uniform(0, 5000) for _ in range(1000))
    alarm = Alarm(Rule(2, 3, 60))
    found = [alarm.add(each, i) for i, each in enumerate(judgements([draw.random() < 0.2 for _ in seconds], seconds))]
    raised = [seconds[i] for i, each in enumerate(found) if each and each["event"] == "raised"]
    assert len(raised) > 5
    assert min(after - before for before, after in pairwise(raised)) > 60


def test_a_clock_that_is_set_back_ends_no_alarm_and_keeps_none_for_ever() -> None:
    alarm = Alarm(Rule(1, 1, 10))
    seconds = [0, 5, -3600, -3598, -3594, -3590]
    found = [alarm.add(each, i) for i, each in enumerate(judgements([True] + [False] * 5, seconds))]
    assert [each and each["event"] for each in found] == ["raised", None, None, None, None, "cleared"]


@pytest.mark.parametrize(
    ("text", "hold"),
    [("3/2", 0), ("0/2", 0), ("-1/2", 0), ("1", 0), ("a/b", 0), (f"1/{MOST + 1}", 0), ("1/1", -1), ("1/1", float("inf")),
     ("1/1", float("nan"))],
)  # fmt: skip
def test_no_such_rule(text: str, hold: float) -> None:
    with pytest.raises(AuscultError):
        Rule.of(text, hold)


class Kept:
    """A receiver that is told, and says that it has it or not."""

    name = "exec"

    def __init__(self, works: bool = True) -> None:
        self.works, self.got = works, list[Event]()

    def start(self, done: Any, say: Any) -> None:
        self.done = done

    def put(self, event: Event) -> None:
        self.got.append(event)
        if self.works:
            self.done(event)

    def close(self, seconds: float) -> None:
        pass


class Killed(BaseException):
    pass


def row(number: int, anomalous: bool, note: str = "") -> dict[str, Any]:
    time = (BEGIN + timedelta(seconds=number)).isoformat(timespec="milliseconds")
    return {
        "time": time, "file": f"{number}.wav", "size": 1, "mtime_ns": number, "seconds": 1.0, "score": 0.1 * number,
        "p_value": 0.5, "anomalous": anomalous, "start": 0.0, "end": 1.0, "note": note, "ctime_ns": 1, "inode": 1, "content": "",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_kill_at_any_step_loses_nothing_and_repeats_nothing(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a line and its event, between the event and its sending, and between that and the note of it."""
    draw, rule = random.Random(3), Rule(2, 3, 4)
    rows = [row(i, draw.random() < 0.4, draw.choice(["", "", "check recording: x"])) for i in range(120)]
    alone, kept = Alarm(rule), Kept()
    judged = [each for each in rows if not each["note"]]
    expected = [alone.add(Judgement(each["time"], each["file"], 0.0, each["score"], 0.5, each["anomalous"], "pump", "1" * 16),
                          int(each["mtime_ns"]) + 1) for each in judged]  # fmt: skip
    out, kills, written = tmp_path / f"o{suffix}", 0, 0

    def dying(name: str) -> None:
        original = getattr(Outbox, name)

        def maybe(self: Outbox, *arguments: Any) -> None:
            if draw.random() < 0.3:
                raise Killed
            original(self, *arguments)

        monkeypatch.setattr(Outbox, name, maybe)

    dying("add"), dying("done")
    while written < len(rows):
        with closing(Journal(out, "pump", "1" * 64, 0.5)) as journal:
            written = journal.count
            try:
                alarms = Alarms(journal, rule, [kept], lambda line: None)
                for each in rows[written:]:
                    alarms.add(journal.write(each))
            except Killed:
                kills += 1
    monkeypatch.undo()
    with closing(Journal(out, "pump", "1" * 64, 0.5)) as journal:
        Alarms(journal, rule, [kept], lambda line: None).close(0)
    events = [each for each in expected if each]
    assert kills > 10
    assert len(events) > 10
    assert list({each["id"]: each for each in kept.got}.values()) == events
    got = [each["id"] for each in kept.got]
    with closing(Journal(out, "pump", "1" * 64, 0.5)) as journal:
        Alarms(journal, rule, [kept], lambda line: None).close(0)
    assert [each["id"] for each in kept.got] == got
    assert Outbox(beside(out)).left == {"exec": {}}


def test_alarms_begin_where_they_are_asked_for_and_a_rule_may_change(tmp_path: Path) -> None:
    """What was judged before counts for the last n, and raises nothing."""
    out, kept, said = tmp_path / "o.csv", Kept(), list[str]()

    def heard(rule: Rule | None, rows: list[dict[str, Any]]) -> None:
        with closing(Journal(out, "pump", "1" * 64, 0.5)) as journal:
            alarms = Alarms(journal, rule, [kept], said.append) if rule or beside(out).exists() else None
            for each in rows:
                written = journal.write(each)
                if alarms:
                    alarms.add(written)
            if alarms:
                alarms.close(0)

    heard(None, [row(i, True) for i in range(4)])
    assert not beside(out).exists()
    heard(Rule(3, 3), [row(4, True)])
    assert [(each["event"], each["recordings"][0]["file"]) for each in kept.got] == [("raised", "2.wav")]
    heard(Rule(1, 2), [row(5, False), row(6, False)])
    assert [each["event"] for each in kept.got] == ["raised", "cleared"]
    assert kept.got[1]["alarm"] == kept.got[0]["id"]
    heard(None, [row(7, True)])
    heard(Rule(1, 1), [row(8, False), row(9, True)])
    assert [each["time"][17:19] for each in kept.got] == ["04", "06", "09"]
    out.unlink()
    with pytest.raises(AuscultError, match=r"these alarms are of an output of 8 lines or more, and o\.csv has 0"):
        heard(Rule(1, 1), [])


def test_an_outbox_that_is_none_and_one_that_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "o.csv.alarms.jsonl"
    path.write_text(
        '{"rule": "1/1", "hold": 0, "rows": 0}\n{"event": {"id": "1"}, "to": ["exec", "mqtt"]}\n{"done": "1", "to": "ex'
    )
    box = Outbox(path)
    assert box.left == {"exec": {"1": {"id": "1"}}, "mqtt": {"1": {"id": "1"}}}
    box.done({"id": "1"}, "mqtt")
    assert [list(Outbox(path).left[name]) for name in ("exec", "mqtt")] == [["1"], []]
    for text in ("[1]\n", "{}\n", '{"rule": "2/1", "hold": 0, "rows": 0}\n', "x\n"):
        path.write_text(text)
        with pytest.raises(AuscultError, match="line 1 is no line of alarms"):
            Outbox(path)
