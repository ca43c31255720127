"""Check and decompress COCO's run lengths: the lengths of a mask's runs of zeros and ones in turn, down its columns.

The first run is of zeros. In compressed form, which is a text, each number is written in digits of 5 bits, one
character per digit, lowest digit first, in two's complement. From the fourth number on, the text has the difference
from the number two places before.
"""

from __future__ import annotations

from typing import Any, List, Union

FIRST_CHARACTER = ord("0")
DIGIT_BITS = 5
SIGN, GOES_ON, CHARACTERS = 0x10, 0x20, 0x40
MOST_DIGITS = 13  # enough for 64 bits; reading a number as long as a whole file would take too long
WRITTEN_AS_SUCH = 3  # numbers before the first difference


def checked_run_lengths(counts: Union[str, Any], pixels: int) -> List[int]:
    """Return run lengths as a list, and check that they fill the image.

    Args:
        counts: a list of lengths, or a text with compressed ones.
        pixels: number of pixels of the image.

    Raises:
        ValueError: these are not run lengths, or they do not fill the image.
    """
    lengths = decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError("they are neither whole numbers of 0 or more nor a compressed text of such numbers")
    if sum(lengths) != pixels:
        raise ValueError(f"they add up to {sum(lengths):,} pixels, but the image has {pixels:,}")
    return lengths


def decompressed(text: str) -> List[int]:
    """Return the numbers in a compressed text.

    Raises:
        ValueError: the text is cut short or has invalid characters.
    """
    numbers: List[int] = []
    number = digits = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        if not 0 <= code < CHARACTERS or digits == MOST_DIGITS:
            raise ValueError("the text is not compressed run lengths")
        number |= (code & (GOES_ON - 1)) << (DIGIT_BITS * digits)
        digits += 1
        if code & GOES_ON:
            continue
        if code & SIGN:
            number -= 1 << (DIGIT_BITS * digits)
        numbers.append(number + numbers[-2] if len(numbers) >= WRITTEN_AS_SUCH else number)
        number = digits = 0
    if digits:
        raise ValueError("the compressed text is cut short")
    return numbers
