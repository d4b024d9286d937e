"""The words of a caption, as the COCO caption evaluation counts them."""

import re

_TOKEN = re.compile(
    r"""
      (?:can(?=not\b) | got(?=ta\b) | gon(?=na\b) | wan(?=na\b) | lem(?=me\b) | gim(?=me\b) | '?t(?=is\b|was\b))
    | (?:[a-z]\.)+(?:[a-z]\b)?(?!\w) | (?:mr|mrs|ms|dr|st|vs|etc)\. | no\.(?=\ \d)  # abbreviations
    | n't\b | '(?:s|re|ve|ll|d|m)\b | '\d\ds\b | o'clock\b | ma'am\b | 'n\b'?  # contractions
    | [-+]?\d*[.,]\d+(?:[-.,/:]\d+)*(?:-[a-z]+)* | [-+]?\d+(?:[:/-]\d+)*(?![\w/-])  # numbers
    | [a-z]&[a-z]\b | @?\w+?(?=n't\b) | @?\w+(?:[-/.@]\w+)*  # words
    | \.{3} | [?!]+ | -+ | \S  # marks
    """,
    re.VERBOSE,
)
_MARK = re.compile(r"['\"`,:;.?!]|\.{3}|-+")


def caption_words(text: str) -> list[str]:
    """The text in lower case as tokens of the Penn Treebank, without punctuation and without what is not ASCII.

    The source is the paper's public implementation: characters that are not ASCII become spaces, and then the COCO
    evaluation's tokeniser (Stanford's, of 2014) leaves out ' " ` . ? ! , : ; and dashes, but keeps brackets, "?!" and
    other marks such as &. Hyphenated words and numbers such as 1/2, 3-4 and 1,000 stay one word; don't is two (do,
    n't), and so are cannot, onion's and 2.5kg; abbreviations keep their full stop. These rules are ours and agree with
    that tokeniser on ordinary captions, but not on web addresses, HTML or smileys, and not on every abbreviation.
    """
    ascii_text = re.sub(r"[^\x00-\x7f]", " ", text)
    return [token for token in _TOKEN.findall(ascii_text.lower()) if not _MARK.fullmatch(token)]
