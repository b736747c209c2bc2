"""Counter-based random numbers: what is drawn depends on the words that name it, never on what was drawn before.

The mixer is splitmix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014):
add, shift, xor and multiply on 64 bits, so that every machine and every numpy gives the same bits.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

U64: TypeAlias = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = (1 << 64) - 1


def hash64(*words: ArrayLike) -> U64:
    """uint64 hash of the words, broadcast against each other; the order of the words matters.

    A word is an integer or an array of integers (negative ones count modulo 2**64). Scalars alone give shape ().
    """
    state = np.asarray(np.uint64(len(words)))
    for word in words:
        state = _mix(state ^ _as_words(word))
    return state


def uniform(bits: U64) -> NDArray[np.float64]:
    """float64 in [0, 1) of the upper 53 bits; shape as given."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(bits: U64, bound: ArrayLike) -> NDArray[np.int64]:
    """int64 in [0, bound), elementwise. The bias is below bound / 2**53."""
    return np.floor(uniform(bits) * np.asarray(bound, dtype=np.float64)).astype(np.int64)


def _mix(z: U64) -> U64:
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return np.asarray(z ^ (z >> np.uint64(31)))


def _as_words(word: Any) -> U64:
    # A Python integer may be negative or beyond 64 bits (a seed of the user's).
    array = np.asarray(np.uint64(word & _MASK) if isinstance(word, int) else word)
    return array if array.dtype == np.uint64 else array.astype(np.int64).astype(np.uint64)
