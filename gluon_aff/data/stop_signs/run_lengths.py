"""COCO's run lengths: how long the runs of a mask's zeros and ones are in turn, down its columns, zeros first.

As text ("compressed"), a number is written in digits of 5 bits, the lowest first, two's complement, a character each.
From the fourth on it is the difference from the number two before.
"""

from __future__ import annotations

from typing import Any, List, Union

FIRST_CHARACTER = ord("0")
DIGIT_BITS = 5
SIGN, GOES_ON, CHARACTERS = 0x10, 0x20, 0x40
MOST_DIGITS = 13  # hold 64 bits; a number of a whole file's length would take for ever
WRITTEN_AS_SUCH = 3


def checked_run_lengths(counts: Union[str, Any], pixels: int) -> List[int]:
    """The lengths that `counts`, a list or a text, stands for.

    Raises:
        ValueError: they are none, or do not fill an image of so many pixels.
    """
    lengths = decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError("they are neither whole numbers from 0 nor such numbers compressed")
    if sum(lengths) != pixels:
        raise ValueError(f"they make {sum(lengths):,} pixels, and the image has {pixels:,}: they do not fill it")
    return lengths


def decompressed(text: str) -> List[int]:
    """The numbers that a text stands for.

    Raises:
        ValueError: it is not whole, or has other characters.
    """
    numbers: List[int] = []
    number = digits = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        if not 0 <= code < CHARACTERS or digits == MOST_DIGITS:
            raise ValueError("they are text that is no compressed run lengths")
        number |= (code & (GOES_ON - 1)) << (DIGIT_BITS * digits)
        digits += 1
        if code & GOES_ON:
            continue
        if code & SIGN:
            number -= 1 << (DIGIT_BITS * digits)
        numbers.append(number + numbers[-2] if len(numbers) >= WRITTEN_AS_SUCH else number)
        number = digits = 0
    if digits:
        raise ValueError("they are compressed and cut short")
    return numbers
