"""Code words: how a model that answers with a fixed list of words answers about classes of any name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from emloc.errors import UserError


@dataclass(frozen=True)
class AnswerCode:
    """The words that are written in place of class names, in demonstrations and answers.

    Parameters
    ----------
    words
        Class name -> word, for the classes that need one. Empty: every class is written by its name.
    closed
        The model answers with words of its list only, so that an answer is the bare word (no full stop added).
    """

    words: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False

    @classmethod
    def for_classes(cls, classes: Sequence[str], label_words: Sequence[str] | None, seed: int = 0) -> "AnswerCode":
        """The code of a model that answers with `label_words`; None: the model answers any text.

        A class name that is a label word stays as it is; each of the others gets a label word of its own, drawn
        without replacement with `seed`. UserError if there are fewer words than classes that need one.
        """
        if label_words is None:
            return cls()
        needy = [name for name in dict.fromkeys(classes) if name not in set(label_words)]
        free = [word for word in dict.fromkeys(label_words) if word not in set(classes)]
        if len(needy) > len(free):
            raise UserError(
                f"The model has {len(free)} words left to answer with, but {len(needy)} classes need one; "
                "use a dataset with fewer classes, or a model that answers in free text."
            )
        order = np.random.default_rng(seed).permutation(len(free))
        return cls({name: free[index] for name, index in zip(needy, order, strict=False)}, closed=True)

    def encode(self, label: str) -> str:
        """The word for a class name (the name itself if it has no word)."""
        return self.words.get(label, label)

    def decode(self, prediction: str) -> str:
        """The class name of an answer that is exactly a code word, outer white space apart; else the answer itself."""
        return self._names.get(prediction.strip(), prediction)

    @cached_property
    def _names(self) -> dict[str, str]:
        return {word: name for name, word in self.words.items()}
