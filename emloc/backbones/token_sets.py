"""Tokens that methods treat apart, found by how turns are written and never by a list of ids."""

from pathlib import Path

from emloc.backbones.base import Backbone
from emloc.prompt import Demonstration, TokenKind


def template_ids(backbone: Backbone) -> frozenset[int]:
    """The tokens that turns are written with: markers, role names, the system message; punctuation apart."""
    shown = [Path(), None] if "images" in backbone.reads else [None]
    turns = [piece for visual in shown for piece in backbone.chat.demonstration(Demonstration(visual, "", ""))]
    written = [piece for piece in turns if not piece.literal and piece.kind != TokenKind.IMAGE]
    pieces = [*backbone.chat.system_turn(), *written]
    found = frozenset(token for piece in pieces for token in backbone.tokenise(piece.text, piece.literal))
    return found - punctuation_ids(backbone)


def punctuation_ids(backbone: Backbone) -> frozenset[int]:
    """The tokens of comma, full stop, question and exclamation mark, as far as the tokenizer has them."""
    # The last token of each: some tokenizers put a space in front of a text, which is a token of its own.
    return frozenset(backbone.tokenise(mark, True)[-1] for mark in ",.?!") - {backbone.tokenizer.unk_token_id}
