"""Any classification of anybody's rows: a template makes the prompt, a word stands for a label."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt.errors import InputError, listed
from tasks.base import Example
from tasks.choice.cloze import ClozeTask
from tasks.choice.rows import Choice, Unlabelled
from tasks.choice.template import Template, typed
from tasks.own.rows import BadRow, RowsTask
from tasks.own.sources import Rows
from tasks.own.unlabelled import read_unlabelled
from tasks.splits import Fold

MOST_TOLD = 100  # labels without a word that are counted one by one
EXPECTED_LABELS = """expected a word for each, as in --labels 0=" no" 1=" yes\""""


class ChoiceTask(RowsTask, ClozeTask):
    """Choose the word of a row's label, the likeliest after the prompt that `template` makes.

    `labels` gives each label its word, as a mapping or as texts "label=word". White space at the
    ends of a column is left out. A row with an empty column, without a label or with one that has
    no word is left out and counted; a test file without any label is not scored. Rows that have a
    text in common are in the same split, of the columns `group_by` or else of all in the template.
    """

    name = "choice"
    unit = "groups of rows"  # that share a text, as they are not independent of each other
    together = "by texts that they share (--group-by names the columns that count)"

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        train: str | Path | Rows | None = None,
        dev: str | float | Path | Rows | None = None,
        test: str | float | Path | Rows | None = None,
        template: str | None = None,
        labels: Mapping[Any, str] | Iterable[str] = (),
        label_column: str = "label",
        group_by: str | Sequence[str] | None = None,
        fold: Fold | None = None,
    ):
        self._ask(template, labels, label_column, group_by)
        self._wordless: Counter[str] = Counter()
        self._unlabelled = ""
        super().__init__(data, limits=limits, train=train, dev=dev, test=test, fold=fold)
        self._tell_labels()

    @classmethod
    def for_predictions(cls, **options: Any) -> "ChoiceTask":
        """Return the task without rows: the template, the labels and their column are enough."""
        task = cls.__new__(cls)  # as __init__ would read rows
        task._ask(**options)
        return task

    def options(self) -> dict[str, Any]:
        """Return the template, the labels' words and column, and the columns to group by."""
        return {
            "template": self.template.text,
            "labels": dict(zip(self.labels, self.answers)),
            "label_column": self.label_column,
            "group_by": list(self.group_by),
        }

    def _ask(
        self,
        template: str | None = None,
        labels: Mapping[Any, str] | Iterable[str] = (),
        label_column: str = "label",
        group_by: str | Sequence[str] | None = None,
    ) -> None:
        """Take what is asked of every row; InputError for what makes no sense."""
        if template is None:
            raise InputError(
                "choice got no template; expected one with columns in braces, "
                'as in --template "Review: {text}\\nIt is"'
            )
        self.template = Template(template)
        words = label_words(labels)
        self.labels, self.answers = tuple(words), tuple(words.values())
        self.label_column = label_column
        self.group_by = self._group_columns(group_by)
        if group_by is not None:
            self.shared = f"a text in {', '.join(self.group_by)}"
        self.columns = (*self.template.columns, label_column)
        self.width = len(self.columns)

    def _group_columns(self, group_by: str | Sequence[str] | None) -> tuple[str, ...]:
        """Return the columns to group by; InputError for any but the template's."""
        if group_by is None:
            return self.template.columns
        columns = (group_by,) if isinstance(group_by, str) else tuple(group_by)
        if not columns or not {*columns} <= {*self.template.columns}:
            raise InputError(
                f"--group-by is {' '.join(columns) or 'empty'}; expected columns of the template "
                f"({', '.join(self.template.columns)})"
            )
        return columns

    def asked(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Return the texts that the template asks for."""
        texts = [_cell(values, column) for column in self.template.columns]
        for column, text in zip(self.template.columns, texts):
            if text is None:
                raise BadRow(f"no {column}", malformed=column not in values)
            if not text:
                raise BadRow(f"empty {column}")
        return tuple(texts)

    def texts(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Return the texts that the template asks for, and the label."""
        texts = self.asked(values)
        label = _cell(values, self.label_column)
        if not label:
            raise BadRow("no label")
        if label not in self.labels:
            if label in self._wordless or len(self._wordless) < MOST_TOLD:
                self._wordless[label] += 1
            raise BadRow("label without a word", detail=repr(label))
        return *texts, label

    def ties(self, *texts: str) -> tuple[str, ...]:
        """Return the texts of a row in the columns to group by."""
        return tuple(texts[self.columns.index(column)] for column in self.group_by)

    def example(self, *texts: str) -> Example:
        """Return the prompt of a row, and its label's word."""
        choice = self._choice(*texts)
        return Example(self.template.fill(choice.texts), self.answers[choice.label])

    def choices(self, split: str) -> Sequence[Choice]:
        """Return the rows of a split with the numbers of their labels."""
        return self.rows(split, self._choice)

    def unlabelled(self, path: Path) -> tuple[list[Unlabelled], list[str]]:
        """Return the rows of a file, and what cannot be read; InputError where nothing can."""
        return read_unlabelled(path, self.asked)

    def why_not_scored(self, split: str) -> str:
        """Return why a split is not scored: it has no labels, or no rows."""
        if split == "test" and self._unlabelled:
            return f"{self._unlabelled} has no labels in a column {self.label_column!r}"
        return super().why_not_scored(split)

    def _choice(self, *texts: str) -> Choice:
        return Choice(texts[:-1], self.labels.index(texts[-1]))

    def _check_source(self, split: str, name: str, found: tuple[str, ...]) -> None:
        """Let a test file pass whose rows would be of use but for their labels, of all of them."""
        account = self.accounts[name]
        unlabelled = "no label" in account.skipped and "label without a word" not in account.skipped
        if split == "test" and not account.used and unlabelled:
            self._unlabelled = name
            del self._tables[split]
        else:
            super()._check_source(split, name, found)

    def _tell_labels(self) -> None:
        """Note the labels without a word, and the words whose label occurs nowhere in training."""
        if self._wordless:
            told = (f"{label!r} ({n:,} rows)" for label, n in self._wordless.most_common())
            self.note("train", f"labels without a word: {listed(told)}")
        known = Counter(row.label for row in self.choices("train"))
        for number, label in enumerate(self.labels):
            if number not in known:
                self.note("train", f"no row for train has the label {label!r}")


def label_words(labels: Mapping[Any, str] | Iterable[str]) -> dict[str, str]:
    """Return the word of each label.

    `labels` is a mapping, or has the texts "label=word" of a command line. Raises InputError unless
    there are at least two labels with a word of its own each.
    """
    pairs = labels.items() if isinstance(labels, Mapping) else map(_label_and_word, labels)
    words: dict[str, str] = {}
    for label, word in pairs:
        label, word = _plain(label), typed(word)
        if not word.strip():
            raise InputError(f"the label {label!r} has no word; {EXPECTED_LABELS}")
        if label in words:
            raise InputError(f"the label {label!r} has two words; {EXPECTED_LABELS}")
        if word in words.values():
            raise InputError(f"two labels have the word {word!r}; {EXPECTED_LABELS}")
        words[label] = word
    if len(words) < 2:
        raise InputError(f"{len(words)} labels leave no choice; {EXPECTED_LABELS}")
    return words


def _label_and_word(text: str) -> tuple[str, str]:
    label, equals, word = text.partition("=")
    if not equals or not label:
        raise InputError(f"the label {text!r} has no word; {EXPECTED_LABELS}")
    return label, word


def _cell(values: dict[str, Any], column: str) -> str | None:
    """Return the text in a column; None where there is none, as pandas' NaN says too."""
    value = values.get(column)
    return None if value is None or value != value else _plain(value)


def _plain(value: Any) -> str:
    """Return a value as tables write it: 1 for 1.0, which numbers become beside empty cells."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()
