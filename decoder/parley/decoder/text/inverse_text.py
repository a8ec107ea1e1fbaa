"""Spoken words to written form: "twenty five" is 25. Knows text and word times, not how the words were recognized.

Cardinals, ordinals and decimals are found by text2num. What stands here is which of them are certain, and the forms it
does not know: digits said one by one, times of day, years in dates, money, percent. What could mean two things stays as
it was said, and so do numbers below ten with nothing beside them: "one of them", "second thought".
"""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from text_to_num import find_numbers

from parley.decoder.text.stage import OnFault, Sees, Traits
from parley.decoder.values import Final, Hypothesis, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from parley.decoder.text.stage import Context, Result
    from parley.decoder.values import StreamOptions

LANGUAGES = ("en",)


def _words(text: str) -> list[str]:
    return text.split()


DIGITS = {word: str(digit) for digit, word in enumerate(_words("zero one two three four five six seven eight nine"))}
SAID_DIGITS = DIGITS | {"o": "0", "oh": "0"}
REPEATS = {"double": 2, "triple": 3}
TEENS = _words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
SCALES = _words("hundred thousand million billion trillion")
ORDINALS = {
    *_words("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"),
    *_words("thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"),
    *(word[:-1] + "ieth" for word in TENS),
    *(word + "th" for word in SCALES),
}
CARDINALS = {*DIGITS, *TEENS, *TENS, *SCALES}
NUMBERS = CARDINALS | ORDINALS
COUNTED = NUMBERS | {"and", "point", "sixteeth"}  # what text2num is shown; it takes "hundreds" for 100
# A number with one of these behind it is a part of something else: "nineteen eighties", "two thirds", "seventy o one".
GOES_ON = {"o", "oh", "something", *SCALES, *(word[:-1] + "ies" for word in TENS), *(word + "s" for word in ORDINALS)}
SPLIT_AT_HYPHENS = NUMBERS | REPEATS.keys() | {"o", "oh", "and"}

SMALL = {word: number for number, word in enumerate([*DIGITS, *TEENS])}
SMALL |= {word: 10 * number for number, word in enumerate(TENS, start=2)}
SMALL |= {f"{ten} {digit}": SMALL[ten] + SMALL[digit] for ten in TENS for digit in DIGITS if digit != "zero"}
HOURS = {word: number for word, number in SMALL.items() if 1 <= number <= 12}
MINUTES = {word: number for word, number in SMALL.items() if 10 <= number < 60}
MINUTES |= {f"{zero} {digit}": SMALL[digit] for zero in ("o", "oh", "zero") for digit in DIGITS if digit != "zero"}
PAST = {"half": 30, "quarter": 15, "a quarter": 15, "five": 5, "ten": 10, "twenty": 20, "twenty five": 25}

MONTHS = {*_words("january february march april may june july august september october november december")}
DAYS = {*_words("today tomorrow tonight monday tuesday wednesday thursday friday saturday sunday")}
TIME_FOLLOWS = {"at", "by", "around", "about", "until", "till", "before", "after", "from"}

DOLLARS_EUROS = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
POUNDS = {"pound": "£", "pounds": "£"}
POUNDS_ARE_MONEY = {"gb", "ie"}  # elsewhere people weigh in them
NOT_BEFORE = {"point", *DOLLARS_EUROS, *POUNDS}  # "point five percent", "twenty dollars fifty"
CENTS = {"$": {"cent", "cents"}, "€": {"cent", "cents"}, "£": {"penny", "pence"}}


def _one_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_HOUR, _MINUTE = rf"(?P<hour>{_one_of(HOURS)})", rf"(?P<minute>{_one_of(MINUTES)})"
_SIDE, _END = r"(?P<side>[ap]\.?m|[ap] m)", r"(?![^ \n])"
_CLOCK = re.compile(rf"{_HOUR} (?:o'clock|oclock|o clock){_END}")
_SIDED = re.compile(rf"{_HOUR}(?: {_MINUTE})? {_SIDE}{_END}")
_PAST = re.compile(rf"(?P<past>{_one_of(PAST)}) (?P<way>past|to) {_HOUR}(?: {_SIDE})?{_END}")
_PLAIN = re.compile(rf"{_HOUR} {_MINUTE}{_END}")
_PART_OF_DAY = re.compile(r" (?:in the|this) (?:morning|afternoon|evening)\b| at night\b")
_DAY = re.compile(rf" (?:on )?(?:{_one_of(DAYS)})\b")
_AROUND_WORDS = re.compile(r"(\W*)(.*?)(\W*)", re.DOTALL)
_WORD = re.compile(r"[a-z]+")

T = TypeVar("T")


def covers(language: str) -> bool:
    """Whether anything of the language ("en-GB" is "en") is written differently here."""
    return language.lower().partition("-")[0] in LANGUAGES


class InverseText:
    """The stage: finals in written form; readings that then are the same are one."""

    name = "inverse_text"
    traits = Traits(Sees.FINALS | Sees.ALTERNATIVES, OnFault.PASS)

    def wanted(self, options: StreamOptions) -> bool:
        return options.written and covers(options.language)

    def begin(self) -> None:
        return None

    def apply(self, results: Sequence[Result], contexts: Sequence[Context]) -> list[Result]:
        return [
            replace(result, hypotheses=written_forms(result.hypotheses, context.language))
            if isinstance(result, Final)
            else result
            for result, context in zip(results, contexts, strict=True)
        ]


def written_forms(hypotheses: Sequence[Hypothesis], language: str) -> tuple[Hypothesis, ...]:
    """Readings in written form; those that then are the same are one."""
    by_text: dict[str, Hypothesis] = {}
    for hypothesis in hypotheses:
        one = written(hypothesis, language)
        by_text.setdefault(one.text, one)
    return tuple(by_text.values())


def written(hypothesis: Hypothesis, language: str) -> Hypothesis:
    """The hypothesis in written form; as it is, if the language ("en-GB" is "en") is not one of LANGUAGES."""
    if not covers(language):
        return hypothesis
    region = language.lower().partition("-")[2]
    money = DOLLARS_EUROS | POUNDS if region in POUNDS_ARE_MONEY else DOLLARS_EUROS
    tokens, said = hypothesis.text.split(), [word.text for word in hypothesis.words]
    changes = _changes(tokens, money)
    word_changes = changes if said == tokens else _changes(said, money)
    text, words = hypothesis.text, hypothesis.words
    if changes:
        text = " ".join(_changed(tokens, changes, lambda _, text: text))
    if word_changes and words:
        words = tuple(_changed(words, word_changes, _spanning))
    return replace(hypothesis, text=text, words=words)


def _spanning(words: Sequence[Word], text: str) -> Word:
    # The lowest confidence: a number is right only if each of its words is.
    confidence = min(word.confidence for word in words)
    return Word(text, words[0].start_ms, words[-1].end_ms, confidence, words[0].speaker)


class _Change(NamedTuple):
    """The tokens [start, stop) are written as one."""

    start: int
    stop: int
    text: str


def _changed(items: Sequence[T], changes: Sequence[_Change], join: Callable[[Sequence[T], str], T]) -> list[T]:
    changed: list[T] = []
    at = 0
    for start, stop, text in changes:
        changed += [*items[at:start], join(items[start:stop], text)]
        at = stop
    return [*changed, *items[at:]]


def _changes(tokens: Sequence[str], money: Mapping[str, str]) -> list[_Change]:
    """What is to be written differently, in order."""
    if not any(word in NUMBERS or word in REPEATS for token in tokens for word in _WORD.findall(token.lower())):
        return []
    line = _Line(tokens)
    pieces: list[_Piece] = []
    for find in (_times, _digit_runs, lambda line: _numbers(line, money)):
        for phrase in find(line):
            if all(line.whole(piece) for piece in phrase):
                pieces += phrase
                line.take(phrase[0].start, phrase[-1].end)
    return [line.change(piece) for piece in sorted(pieces)]


class _Piece(NamedTuple):
    """The atoms [start, end) are written as `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Atom:
    """A token, or what stands between its hyphens, in small letters. apart: punctuation or nothing is before it."""

    text: str
    token: int
    apart: bool


class _Line:
    """The atoms of a text, and which of them are written already."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.atoms: list[_Atom] = []
        self.said = ""  # all atoms with a space before each, or a line's end where punctuation is
        self.begins: list[int] = []  # where each stands in it
        self._around: list[tuple[str, str]] = []
        self._taken: set[int] = set()
        apart = True
        for number, token in enumerate(tokens):
            match = _AROUND_WORDS.fullmatch(token)
            assert match is not None  # every part may be empty
            before, core, after = match.groups()
            core = core.lower().replace("\u2019", "'")
            parts = core.split("-")
            if not SPLIT_AT_HYPHENS.issuperset(parts):
                parts = [core]
            self.atoms.append(_Atom(parts[0], number, apart or bool(before)))
            self.atoms += [_Atom(part, number, False) for part in parts[1:]]
            self._around.append((before, after))
            apart = bool(after) or not core
        for atom in self.atoms:
            self.said += "\n" if atom.apart else " "
            self.begins.append(len(self.said))
            self.said += atom.text

    def __len__(self) -> int:
        return len(self.atoms)

    def at(self, index: int) -> str:
        """The atom, if it goes on from the one before it; else nothing."""
        if not 0 < index < len(self.atoms) or self.atoms[index].apart:
            return ""
        return self.text(index)

    def before(self, index: int) -> str:
        """The atom before this one, if this one goes on from it; else nothing."""
        return self.text(index - 1) if 0 < index < len(self.atoms) and not self.atoms[index].apart else ""

    def index(self, offset: int) -> int:
        """Of the first atom that begins behind `offset` of what was said."""
        return bisect(self.begins, offset)

    def text(self, index: int) -> str:
        """The atom, wherever it stands, if it is not written yet; else nothing."""
        return "" if index < 0 or index in self._taken else self.atoms[index].text

    def take(self, start: int, end: int) -> None:
        self._taken.update(range(start, end))

    def whole(self, piece: _Piece) -> bool:
        """Whether it begins and ends with tokens."""
        atoms, (start, end, _) = self.atoms, piece
        begins = start == 0 or atoms[start - 1].token != atoms[start].token
        return begins and (end == len(atoms) or atoms[end].token != atoms[end - 1].token)

    def change(self, piece: _Piece) -> _Change:
        """With the punctuation that stood around it."""
        first, last = self.atoms[piece.start].token, self.atoms[piece.end - 1].token
        before, after = self._around[first][0], self._around[last][1]
        if piece.text.endswith("."):
            after = after.removeprefix(".")
        return _Change(first, last + 1, f"{before}{piece.text}{after}")


def _times(line: _Line) -> Iterator[list[_Piece]]:
    """Times of day that cannot be anything else: "half past three", "three thirty p m", "at ten fifteen tomorrow"."""
    free = 0
    for index, begin in enumerate(line.begins):
        if index < free or not (line.text(index) in SMALL or line.text(index) in ("half", "quarter", "a")):
            continue
        if line.before(index) in CARDINALS or line.before(index) == "point":
            continue
        for form in (_past, _sided, _clock, _plain):
            phrase = form(line, index, begin)
            if phrase:
                yield phrase
                free = phrase[-1].end
                break


def _past(line: _Line, index: int, begin: int) -> list[_Piece]:
    match = _PAST.match(line.said, begin)
    if match is None:
        return []
    hour, minute, end = HOURS[match["hour"]], PAST[match["past"]], line.index(match.end("hour"))
    if match["way"] == "to":
        if minute != 15:
            return []  # "five to ten people"
        hour, minute = hour - 1 or 12, 45
    before = line.before(index)
    if line.at(end) in NUMBERS or before in ORDINALS or before[:1].isdigit():
        return []  # "the third quarter to one"
    return [_Piece(index, end, f"{hour}:{minute:02}"), *_side(line, match, end)]


def _sided(line: _Line, index: int, begin: int) -> list[_Piece]:
    match = _SIDED.match(line.said, begin)
    if match is None:
        return []
    end = line.index(match.end("minute" if match["minute"] else "hour"))
    # "which one am i speaking to"
    if match["side"] == "am" and not match["minute"] and line.before(index) not in TIME_FOLLOWS | {"to", "and"}:
        return []
    return [_Piece(index, end, _time(match)), *_side(line, match, end)]


def _clock(line: _Line, index: int, begin: int) -> list[_Piece]:
    match = _CLOCK.match(line.said, begin)
    if match is None:
        return []
    return [_Piece(index, index + 1, _time(match)), _Piece(index + 1, line.index(match.end()), "o'clock")]


def _plain(line: _Line, index: int, begin: int) -> list[_Piece]:
    """Hour and minute alone may be a price or a street number: the words round them must say that it is a time."""
    match = _PLAIN.match(line.said, begin)
    if match is None:
        return []
    time_follows = line.before(index) in TIME_FOLLOWS
    on_a_day = time_follows and (line.before(index - 1) in DAYS or _DAY.match(line.said, match.end()))
    if not on_a_day and not _PART_OF_DAY.match(line.said, match.end()):
        return []
    return [_Piece(index, line.index(match.end()), _time(match))]


def _time(match: re.Match[str]) -> str:
    minute = match.groupdict().get("minute")
    return f"{HOURS[match['hour']]}:{MINUTES[minute]:02}" if minute else str(HOURS[match["hour"]])


def _side(line: _Line, match: re.Match[str], start: int) -> list[_Piece]:
    """ "p m" as a word of its own."""
    side = match["side"]
    return [_Piece(start, line.index(match.end()), f"{side[0]}.m.")] if side else []


class _Said(NamedTuple):
    """Digits said as one: "five", "double five"."""

    start: int
    end: int
    digits: str


def _digit_runs(line: _Line) -> Iterator[list[_Piece]]:
    """Three or more digits one by one: telephone numbers, codes, accounts."""
    run: list[_Said] = []
    for said in [*_said_digits(line), _Said(len(line), len(line), "")]:
        if run and (said.start != run[-1].end or not line.before(said.start)):
            yield from _digit_run(line, run)
            run = []
        run.append(said)


def _said_digits(line: _Line) -> Iterator[_Said]:
    at = 0
    while at < len(line):
        times = REPEATS.get(line.text(at), 1)
        last = at if times == 1 else at + 1
        digit = SAID_DIGITS.get(line.text(at) if times == 1 else line.at(last), "")
        if digit:
            yield _Said(at, last + 1, digit * times)
        at = last + 1 if digit else at + 1


def _digit_run(line: _Line, run: list[_Said]) -> Iterator[list[_Piece]]:
    if line.at(run[-1].end) == "point":
        return
    if line.before(run[0].start) == "point":
        run = list(dropwhile(lambda said: line.text(said.start) in SAID_DIGITS, run))
        if not run:
            return
    start, end = run[0].start, run[-1].end
    before, after = line.before(start), line.at(end)
    prefix = ""
    if before == "hundred" and line.before(start - 1) in ("eight", "nine") and len(_digits(run)) >= 7:
        start -= 2
        prefix = SAID_DIGITS[line.text(start)] + "00"  # "one eight hundred five five five ..."
        if line.before(start) == "one":
            start, prefix = start - 1, "1" + prefix
    elif line.text(start) in DIGITS and (
        before in TENS or before in SCALES or (before == "and" and line.before(start - 1) in SCALES)
    ):
        del run[0]  # the end of another number: "twenty one two three"
    if run and after in SCALES:
        del run[-1]  # the beginning of another: "one two three hundred"
    # "Oh" is a word too, where it could be one.
    if run and line.text(run[-1].start) == "oh" and after:
        del run[-1]
    while run and line.text(run[0].start) == "oh" and len(_digits(run)) < 10:
        del run[0]
    digits = _digits(run)
    if len(digits) < 3:
        return
    start = start if prefix else run[0].start
    # "At three oh five" is a time, unless it is an extension.
    if len(run) == 3 and line.text(run[1].start) in ("o", "oh") and line.before(start) in TIME_FOLLOWS:
        return
    yield [_Piece(start, run[-1].end, prefix + digits)]


def _digits(run: Iterable[_Said]) -> str:
    return "".join(said.digits for said in run)


class _Number(NamedTuple):
    """What text2num found. A decimal's `text` has a point, an ordinal's its letters."""

    start: int
    end: int
    text: str
    ordinal: bool

    @property
    def value(self) -> float:
        return float(self.text[:-2] if self.ordinal else self.text)

    @property
    def decimal(self) -> bool:
        return "." in self.text


class _Spoken:
    """An atom as text2num wants it."""

    def __init__(self, text: str, apart: bool) -> None:
        self._text, self._apart = text, apart

    def text(self) -> str:
        return self._text

    def nt_separated(self, _: _Spoken) -> bool:
        return self._apart

    def not_a_number_part(self) -> bool:
        return self._text not in COUNTED


def _numbers(line: _Line, money: Mapping[str, str]) -> Iterator[list[_Piece]]:
    """Cardinals, ordinals and decimals, with the money or percent behind them; years in dates."""
    chain: list[_Number] = []
    chains = [chain]
    for number in _found(line):
        if chain and (chain[-1].end != number.start or not line.before(number.start) or chain[-1].ordinal):
            chain = []
            chains.append(chain)
        chain.append(number)
    alone = {chain[0].start: chain[0] for chain in chains if len(chain) == 1}
    written_until = 0
    for chain in chains:
        phrase: list[_Piece] = []
        if len(chain) == 2:
            phrase = _year(line, *chain)
        elif len(chain) == 1 and chain[0].start >= written_until:
            phrase = _ordinal(line, chain[0]) if chain[0].ordinal else _cardinal(line, chain[0], alone, money)
        if phrase:
            yield phrase
            written_until = phrase[-1].end


def _found(line: _Line) -> list[_Number]:
    spoken: list[_Spoken] = []
    decimals = False
    for index in range(len(line)):
        text = line.text(index)
        decimals = text == "point" or (decimals and line.before(index) != "" and text in SAID_DIGITS)
        if decimals and text in ("o", "oh"):
            text = "zero"
        # The word that it takes for the sixtieth (text2num 3.1).
        spoken.append(_Spoken("sixteeth" if text == "sixtieth" else text, not line.before(index)))
    numbers: list[_Number] = []
    for found in find_numbers(spoken, "en", threshold=0):
        number = _Number(found.start, found.end, found.text, found.is_ordinal)
        # "One point five million" comes as 1.5 and 1000000.
        of_a_decimal = numbers and numbers[-1].decimal and numbers[-1].end == number.start
        if not (of_a_decimal and number.end == number.start + 1 and line.at(number.start) in SCALES):
            numbers.append(number)
    return numbers


def _year(line: _Line, century: _Number, year: _Number) -> list[_Piece]:
    """ "may fifth nineteen eighty two". Two numbers elsewhere are left alone: "twenty thirty", "two fifty"."""
    before = [atom.text for atom in line.atoms[: century.start]]
    if before and before[-1] in ORDINALS:
        del before[-1]
        if before and (before[-1] == "the" or before[-1] in TENS):
            del before[-1]
    in_a_date = before and before[-1] in MONTHS
    whole = century.text in ("18", "19", "20") and len(year.text) == 2 and line.at(year.end) not in GOES_ON
    return [_Piece(century.start, year.end, century.text + year.text)] if in_a_date and whole else []


def _ordinal(line: _Line, number: _Number) -> list[_Piece]:
    start, end, text, _ = number
    before, after = line.before(start), line.at(end)
    if number.value < 10 or line.text(start) in SCALES or line.text(start).removesuffix("th") in SCALES:
        return []
    fraction = before in ("a", "an") if end == start + 1 else end == start + 2 and line.text(start) == "one"
    if fraction or before in NOT_BEFORE:
        return []  # "a tenth", "one hundredth"
    # A "twenty second call" may be the one after the twenty-first, or a short one.
    if line.text(end - 1) == "second" and before not in MONTHS and after not in ("", "of"):
        return []
    return [_Piece(start, end, text)]


def _cardinal(line: _Line, number: _Number, alone: Mapping[int, _Number], money: Mapping[str, str]) -> list[_Piece]:
    start, end, text, _ = number
    before, after = line.before(start), line.at(end)
    a_scale = line.text(start) in SCALES
    if a_scale:
        if before != "a" or line.before(start - 1) == "half":
            return []  # "a couple hundred"
        start -= 1
    if before in NOT_BEFORE or re.match("0[0-9]", text):
        return []
    scale: list[_Piece] = []
    if number.decimal and after in SCALES:
        scale = [_Piece(end, end + 1, after)]
        end, after = end + 1, line.at(end + 1)
    if after in GOES_ON or (after == "point" and line.at(end + 1) in NUMBERS):
        return []
    if after == "percent" or (after == "per" and line.at(end + 1) == "cent"):
        if scale:
            return []
        return [_Piece(start, end + (1 if after == "percent" else 2), text + "%")]
    if after in money and not (a_scale and number.value >= 1_000_000 and number.end == number.start + 1):
        return _money(line, number, start, end, scale, alone, money)
    if (a_scale and number.end == number.start + 1) or (not number.decimal and number.value < 10):
        return []  # "thanks a million"
    if text.startswith("1.") and before == "at":
        return []  # "at one point five people called"
    return [_Piece(start, number.end, text), *scale]


def _money(
    line: _Line,
    number: _Number,
    start: int,
    unit: int,
    scale: list[_Piece],
    alone: Mapping[int, _Number],
    money: Mapping[str, str],
) -> list[_Piece]:
    sign, end = money[line.at(unit)], unit + 1
    text = sign + number.text
    cents = alone.get(end + 1 if line.at(end) == "and" else end)
    if cents and "." not in text and re.fullmatch("[1-9][0-9]?", cents.text) and line.at(cents.end) in CENTS[sign]:
        text, end = f"{text}.{cents.text:0>2}", cents.end + 1
    elif line.at(end) in CARDINALS:
        return []  # "twenty dollars fifty": are they cents?
    if scale:
        return [_Piece(start, number.end, text), _Piece(number.end, end, scale[0].text)]
    return [_Piece(start, end, text)]
