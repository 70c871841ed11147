"""Made-up question pairs, so that the paraphrase task can be tried where Quora's are not at hand.
"""

from pathlib import Path

from minigpt.files import write_text

SAME = ("How do I learn {}?", "What is the best way to learn {}?")
OTHER = "Why is {} hard?"
SUBJECTS = ("Python", "chess", "Greek", "to swim", "the violin", "to cook", "algebra", "to sail")


def made_up_questions(folder: Path) -> Path:
    """Write training and dev pairs in the course's form into a folder, and return it."""
    rows = []
    for subject in SUBJECTS:
        rows.append((SAME[0].format(subject), SAME[1].format(subject), 1))
        rows.append((SAME[0].format(subject), OTHER.format(subject), 0))
    lines = [f"{n:x}\t{first}\t{second}\t{label}"
             for n, (first, second, label) in enumerate(rows)]
    text = "\n".join(["id\tsentence1\tsentence2\tis_duplicate", *lines, ""])
    for split in ("train", "dev"):
        write_text(folder / f"quora-{split}.csv", text)
    return folder
