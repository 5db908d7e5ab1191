"""The course's pure parts: the gate of its web server, its list, what it hears of a run."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from labs.engine.errors import ExitStatus
from labs.engine.exercises.progress import Entry, LabEntry
from labs.engine.learn.chapters import Standing, find_chapters
from labs.engine.learn.gate import Gate
from labs.engine.learn.lab_screen import combined
from labs.engine.learn.messages import (
    Ended,
    Message,
    NextAsked,
    PredictionsAsked,
    Untouched,
    message_line,
    predictions_line,
    read_message,
    read_predictions,
)
from labs.engine.learn.panes import visible
from labs.engine.learn.pictures import Pictures
from labs.engine.learn.story import Phase, Story
from labs.engine.learn.visit import USUAL_SIZE, read_size
from labs.engine.model import (
    Failed,
    Measured,
    Ok,
    Predicted,
    Refused,
    RunStarted,
    StepEnded,
    StepStarted,
    Succeeded,
    Verdict,
)
from labs.engine.views.pane import PaneView, Row, columns_of, page_rows, shortened

GATE = Gate(8080, "the-token")
COOKIE = {"bindlab-8080": "the-token"}
STARTED = RunStarted("l", "a lab", "", "1", "namespaces", "6.1", "", None, "2026-01-02T03:04:05Z")
STEP = StepStarted(1, "Bob asks", Refused("EADDRINUSE", "bind"), "why")


def fault(
    host: str = "127.0.0.1:8080",
    origin: str | None = None,
    token: str | None = None,
    cookies: dict[str, str] | None = None,
    *,
    is_socket: bool = False,
) -> str:
    headers = {"Host": host} | ({"Origin": origin} if origin is not None else {})
    query = {"token": token} if token is not None else {}
    return GATE.find_fault(headers, query, cookies or {}, is_socket=is_socket)


def test_who_has_the_token_or_its_cookie_is_let_in() -> None:
    assert fault(token="the-token") == ""
    assert fault(cookies=COOKIE) == ""
    assert fault(host="localhost:8080", cookies=COOKIE) == ""
    assert fault(origin="http://127.0.0.1:8080", cookies=COOKIE, is_socket=True) == ""


@pytest.mark.parametrize("token", [None, "", "the-toke", "the-token ", "\N{SNOWMAN}"])
def test_another_token_is_none(token: str | None) -> None:
    assert fault(token=token).startswith("The token is missing")
    assert fault(cookies={"bindlab-8080": token or ""}).startswith("The token is missing")
    assert fault(cookies={"bindlab-8081": "the-token"}).startswith("The token is missing")


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1", "127.0.0.1:80", "bindlab.example:8080", "127.0.0.1.example:8080"]
)
def test_another_name_is_not_answered(host: str) -> None:
    """A page whose name is made to lead here (DNS rebinding) has its own name in the request."""
    assert fault(host=host, token="the-token").startswith("Another name")


@pytest.mark.parametrize(
    "origin",
    [
        "http://bindlab.example",
        "http://127.0.0.1:8081",
        "https://127.0.0.1:8080",
        "http://127.0.0.1",
        "null",
        "",
    ],
)
def test_another_page_is_not_let_in(origin: str) -> None:
    assert fault(origin=origin, cookies=COOKIE).startswith("It was asked for from another page")
    assert fault(origin=origin, cookies=COOKIE, is_socket=True).startswith("It was asked for")


def test_a_socket_says_where_it_comes_from() -> None:
    assert fault(cookies=COOKIE, is_socket=True).startswith("It was asked for from another page")


def test_each_server_has_a_token_of_its_own() -> None:
    tokens = {Gate(8080).token for _ in range(10)}
    assert len(tokens) == 10
    assert all(len(token) >= 40 for token in tokens)
    assert "default-src 'none'" in Gate(8080).headers["Content-Security-Policy"]


def test_the_size_of_a_page_is_a_size() -> None:
    assert read_size({"width": "140", "height": "40"}) == (140, 40)
    for strange in ({}, {"width": "x", "height": "1"}, {"width": "-1", "height": "1000000"}):
        assert read_size(strange) == USUAL_SIZE


MESSAGES: list[Message] = [
    NextAsked(),
    Untouched(),
    Ended(0),
    Ended(125, "It lacks something.", "apt-get install it"),
    PredictionsAsked((STEP,), (Ok(), Refused("EACCES"), Measured("requests", 0, 2))),
    STARTED,
    STEP,
    StepEnded(1, Failed("EADDRINUSE", "bind"), Verdict.PASSED, ()),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_said_is_heard(message: Message) -> None:
    assert read_message(json.loads(json.dumps(message_line(message)))) == message


@pytest.mark.parametrize("line", [{}, [], "next", {"say": "hello"}, {"say": "ended"}])
def test_what_is_no_message_is_refused(line: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        read_message(json.loads(json.dumps(line)))


def test_predictions_are_heard_as_they_were_said() -> None:
    said = [Ok(), None, Refused("EACCES", "bind"), Measured("requests", 1, 5)]
    assert read_predictions(json.loads(json.dumps(predictions_line(said)))) == said


def test_a_story_knows_where_a_run_stands() -> None:
    story = Story()
    for message, phase in (
        (STARTED, Phase.RUNNING),
        (PredictionsAsked((STEP,), ()), Phase.ASKING),
    ):
        story.take(message)
        assert story.phase is phase
    assert story.asked == (STEP,)
    story.go_on()
    for event in (STEP, Predicted(1, Refused("EADDRINUSE")), Predicted(2, Ok())):
        story.take(event)
    story.take(StepEnded(1, Failed("EADDRINUSE", "bind"), Verdict.PASSED, ()))
    story.take(StepStarted(2, "Bob asks again", Ok(), "why"))
    story.take(StepEnded(2, Failed("EADDRINUSE", "bind"), Verdict.DIFFERS, ()))
    assert (story.score.right, story.score.judged) == (1, 2)
    story.take(NextAsked())
    assert story.phase is Phase.WAITING
    story.take(Ended(ExitStatus.DIFFERS))
    assert (story.phase, story.status) == (Phase.OVER, ExitStatus.DIFFERS)


def test_the_best_predictions_of_a_lab_are_kept() -> None:
    first = LabEntry(1, "2026-01-02", 3, 13)
    assert combined(None, first) == first
    assert combined(first, LabEntry(1, "2026-01-03", 9, 13)) == LabEntry(2, "2026-01-03", 9, 13)
    assert combined(first, LabEntry(1, "2026-01-03")) == LabEntry(2, "2026-01-03", 3, 13)


def test_what_is_next_is_the_first_that_is_not_done() -> None:
    chapters = find_chapters()
    run, solved = LabEntry(1, "2026-01-02"), Entry("/x", None, "2026-01-02", passed="2026-01-03")
    assert Standing({}, {}).next_of(chapters) == "unique"
    assert Standing({"unique": run}, {}).next_of(chapters) == "corner"
    assert Standing({"unique": run}, {"corner": solved}).next_of(chapters) == "fork"
    every = {chapter.lab.name: run for chapter in chapters}
    exercises = {each.name: solved for chapter in chapters for each in chapter.challenges}
    assert Standing(every, exercises).next_of(chapters) == ""
    assert all(Path(chapter.brief("zh")).exists() for chapter in chapters)


@pytest.mark.parametrize(
    ("current", "at_once", "shown"),
    [
        *((0, 1, [0]), (1, 1, [1]), (2, 1, [2])),
        *((0, 2, [0, 1]), (1, 2, [1, 2]), (2, 2, [1, 2])),
        *((0, 3, [0, 1, 2]), (2, 3, [0, 1, 2])),
    ],
)
def test_the_current_pane_is_shown_with_those_beside_it(
    current: int, at_once: int, shown: list[int]
) -> None:
    assert [*visible(3, current, at_once)] == shown


def widths(rows: Iterable[Row]) -> list[int]:
    return [columns_of("".join(piece.text for piece in row)) for row in rows]


def test_no_row_is_wider_than_its_pane() -> None:
    told: list[Row] = []
    view = PaneView(40, told.extend, has_signs=True)
    for event in (STARTED, STEP, StepEnded(1, Succeeded(), Verdict.DIFFERS, ())):
        view.take(event)
    assert len(told) > 5
    assert max(widths(told)) <= 40
    for language in ("en", "zh"):
        page = find_chapters()[0].brief(language).read_text(encoding="utf-8")
        assert max(widths(page_rows(page, 44))) <= 44


def test_a_text_is_shortened_by_columns() -> None:
    assert shortened("four", 4) == "four"
    assert shortened("fours", 4) == "fou\N{HORIZONTAL ELLIPSIS}"
    assert shortened("\u7aef\u53e3\u7aef\u53e3", 6) == "\u7aef\u53e3\N{HORIZONTAL ELLIPSIS}"


def test_each_step_keeps_its_picture() -> None:
    pictures = Pictures("en", has_signs=True)
    for event in (STARTED, STEP, StepEnded(1, Succeeded(), Verdict.PASSED, ())):
        pictures.take(event)
    assert pictures.steps == [1]
    assert pictures.draw(1, 60) == pictures.draw(None, 60)
