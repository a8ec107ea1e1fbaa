"""The first pass's searches by kind: what each offers, needs and is made by. Knows no network and no stream.

A kind imports what it runs on when it is asked for: torch and numba take seconds and 250 MB. Another kind is another
line of KINDS.

    searches = open_searches(folder, config, shares)               # once a node
    here = searches.on(device.place, threads, vocabulary, blank)   # once a device
    FirstPass(model, here.searches, here.lattices, here.blank_penalty)
    searches.wishes                                                # makes a request's wishes; None: it can have none
    searches.close()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from parley.decoder.errors import DeviceError, ModelError
from parley.decoder.needs import Needs
from parley.decoder.search.calibration import Calibration
from parley.decoder.search.settings import beam_settings
from parley.decoder.side_by_side import SideBySide
from parley.decoder.values import TOKENS, SearchKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder
    from parley.decoder.search.ctc import Search
    from parley.decoder.search.lattice.lattice import Lattices
    from parley.decoder.search.lattice.process import LatticeProcess
    from parley.decoder.search.wishes import WishMaker
    from parley.decoder.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class DeviceSearches:
    """What one device's first pass searches with. searches: makes the searches of so many utterances. lattices: of
    utterances that wish for one. blank_penalty: natural logarithm, taken off every blank under a language model."""

    searches: Callable[[int], Search]
    lattices: Lattices | None = None
    blank_penalty: float = 0.0


class Searches(Protocol):
    """A node's searches of one kind over one model's tokens."""

    @property
    def wishes(self) -> WishMaker | None:
        """Makes what a request wishes for; None: there is nothing to wish for."""
        ...

    def on(self, place: Device, threads: int, vocabulary: Vocabulary, blank: int) -> DeviceSearches:
        """What searches on a device, called once for each, also for each share of the CPU. place: where its model is.
        threads: that it may use of the CPU. Raises ModelError."""
        ...

    def close(self) -> None:
        """Ends what has been started."""
        ...


@dataclass(frozen=True, slots=True)
class SearchWay:
    """A way to search. open: see open_searches. wishes: whether it has a language model and hotwords, and a request may
    have a beam and weights of its own."""

    open: Callable[[ModelFolder, RecognizerConfig, int], Searches]
    needs: Needs
    wishes: bool = False


def open_searches(folder: ModelFolder, config: RecognizerConfig, shares: int = 1) -> Searches:
    """The searches that the config wants with this model. Reads the language model and the hotwords, starts nothing.
    shares: that the CPU is in. Raises ModelError, also if what the kind runs on is not installed here."""
    kind = KINDS[config.search]
    if (missing := kind.needs.missing()) is not None:
        raise ModelError(f"search = {config.search.value!r}: {missing}")
    return kind.open(folder, config, shares)


class BestPath:
    """The likeliest token of each frame."""

    wishes = None

    def on(self, place: Device, threads: int, vocabulary: Vocabulary, blank: int) -> DeviceSearches:
        from parley.decoder.search.greedy import Greedy

        return DeviceSearches(lambda slots: Greedy(slots, blank))

    def close(self) -> None:
        pass


class Beams:
    """Beams of prefixes, with a language model and hotwords."""

    def __init__(self, folder: ModelFolder, config: RecognizerConfig, graphs: tuple[str, ...] = ()) -> None:
        """graphs: see WishMaker."""
        from parley.decoder.search.wishes import Weights, WishMaker

        self._settings, self._calibration = beam_settings(folder), Calibration.read(folder)
        weights = Weights(
            config.beam,
            self._settings.language_weight if config.language_weight is None else config.language_weight,
            self._settings.word_bonus if config.word_bonus is None else config.word_bonus,
        )
        self.wishes = WishMaker(weights, config.language_model, config.hotwords, graphs)

    def on(self, place: Device, threads: int, vocabulary: Vocabulary, blank: int) -> DeviceSearches:
        from parley.decoder.search.beam import Beam

        settings, calibration = self._settings, self._calibration
        side_by_side = SideBySide(threads, "search")
        return DeviceSearches(
            lambda slots: Beam(slots, vocabulary, blank, settings, calibration, side_by_side),
            blank_penalty=settings.blank_penalty,
        )

    def close(self) -> None:
        pass


class BeamsAndLattices:
    """Chunks by beams; whole utterances also by k2, over graphs. All shares of the CPU have one process for that."""

    def __init__(self, folder: ModelFolder, config: RecognizerConfig, shares: int) -> None:
        from parley.decoder.search.lattice.k2 import available

        if (missing := available()) is not None:
            raise ModelError(missing)
        self._files, self._shares = graph_files(config.graphs_dir), shares
        known = (TOKENS, *self._files)
        if config.graph not in known:
            raise ModelError(f"graph: got {config.graph!r}, expected one of {', '.join(known)}")
        graphs = (config.graph, *(name for name in known if name != config.graph))
        self._beams = Beams(folder, config, graphs)
        self.wishes = self._beams.wishes
        self._process: LatticeProcess | None = None

    def on(self, place: Device, threads: int, vocabulary: Vocabulary, blank: int) -> DeviceSearches:
        beams = self._beams.on(place, threads, vocabulary, blank)
        lattices = self._lattices_on(place, vocabulary, blank)
        return DeviceSearches(beams.searches, lattices, beams.blank_penalty)

    def _lattices_on(self, place: Device, vocabulary: Vocabulary, blank: int) -> Lattices:
        from parley.decoder.search.lattice.graph import read_graph
        from parley.decoder.search.lattice.k2 import LatticeSearch
        from parley.decoder.search.lattice.process import WAITING, LatticeProcess

        if not place.on_cpu:
            graphs = {name: read_graph(path, vocabulary) for name, path in self._files.items()}
            return LatticeSearch(vocabulary, graphs, blank=blank, device=place)
        if self._process is None:
            waiting = WAITING * self._shares
            self._process = LatticeProcess(vocabulary, self._files, blank=blank, waiting=waiting)
            try:
                self._process.start().result()
            except DeviceError as error:
                raise ModelError(f'search = "k2": {error}') from None
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


def graph_files(folder: Path | None) -> dict[str, Path]:
    """The graphs of a folder, by name. Raises ModelError."""
    if folder is None:
        return {}
    files = {path.stem: path for path in sorted(folder.glob("*.graph"))}
    if TOKENS in files:
        raise ModelError(f"{files[TOKENS]}: got a graph of this name, expected another: it is always there")
    return files


BEAM = Needs("first-pass", ("torch", "numba"))
KINDS = {
    SearchKind.BEST_PATH: SearchWay(lambda folder, config, shares: BestPath(), Needs("first-pass", ("torch",))),
    SearchKind.BEAM: SearchWay(lambda folder, config, shares: Beams(folder, config), BEAM, wishes=True),
    # What k2 itself needs no extra alone brings: see search/lattice/k2.py.
    SearchKind.K2: SearchWay(BeamsAndLattices, BEAM, wishes=True),
}
