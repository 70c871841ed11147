"""Files are replaced whole or stay as they were."""

import pytest
import torch

from minigpt.errors import InputError
from minigpt.files import replacing, save_tensors, tensor_reader, write_text


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/below", "missing/below"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write .*below: "):
        write_text(tmp_path / place, "text")


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.ones(2), "b": torch.ones(2)}, {})
    read = tensor_reader(path)
    assert read("a").tolist() == [1.0, 1.0]
    save_tensors(path, {"a": torch.zeros(2), "b": torch.zeros(2)}, {})
    with pytest.raises(InputError, match="was replaced while it was read"):
        read("b")
