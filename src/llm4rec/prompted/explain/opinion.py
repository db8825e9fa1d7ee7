"""Words of opinion: what a sentence praises rather than states.

A list, not a model: the words that explanations of films, books and goods praise with, gathered from
such explanations and sorted by stem.  A word counts if it is listed, or is a listed word with one of
the endings below.  It finds most of the praise of such texts and no irony; its figure is for comparing
explainers, not for judging a sentence.
"""

from __future__ import annotations

from functools import lru_cache

_LISTED = """
absorb accessible admire adorable amaze amazing amuse appeal appealing appreciate astonish atmospheric attract
authentic awesome awful bad beautiful beloved best better boring brave breathtaking brilliant captivate captivating
charm charming classic clever comfort compelling complex creative crisp cute darling dazzling deep delicious delight
delightful dull dynamic eager elegant embark emotional enchant enchanting endearing engage engaging engross
engrossing enjoy enjoyable enjoyment enthral entertain entertaining enthusiastic epic essential evocative excellent
exceptional excite excitement exciting exhilarating exquisite extraordinary fabulous fantastic fascinate fascinating
favorite favourite fine flawless fresh fun funny gem genius gentle glad good gorgeous great gripping happy hate
haunting heartfelt heartwarming hilarious hot humorous iconic imaginative immerse immersive impress impressive
incredible innovative insightful inspire inspiring intense interest interesting intrigue intriguing irresistible joy
keen like likeable love lovely lush magical magnificent marvellous marvelous masterful masterpiece memorable
mesmerising mesmerizing moving nice outstanding passionate perfect perfection phenomenal pleasant please pleasing
pleasure poignant poor powerful praise profound provocative quirky quality refreshing relatable remarkable resonate
rewarding rich riveting satisfy satisfying sensational sexy sizzling smart smooth spectacular spellbinding splendid
steamy stimulating strong striking stunning stylish sublime superb surprising suspenseful sweet talented tender
terrible terrific thrill thrilling timeless touching treasure unforgettable unique unmissable unputdownable
uplifting vibrant vivid warm witty wonderful worse worst worthwhile worthy
"""
OPINION = frozenset(_LISTED.split())

_ENDINGS = ("ingly", "ing", "iest", "ier", "ily", "ies", "ly", "ed", "es", "er", "s", "d", "r")


@lru_cache(maxsize=16_384)
def is_opinion(word: str) -> bool:
    """Is a word, or the listed word that it is a form of, a word of opinion?"""
    word = word.casefold()
    if word in OPINION:
        return True
    for ending in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and (stem in OPINION or f"{stem}e" in OPINION or f"{stem}y" in OPINION):
            return True
    return False
