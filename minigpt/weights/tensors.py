"""Named tensors in one safetensors file, or in several that an index lists."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from minigpt.errors import InputError, listed
from minigpt.files import open_tensors, read_json, tensor_reader, tensor_shapes

INDEX = "model.safetensors.index.json"


class Tensors(NamedTuple):
    """What one file or several hold, whichever it is."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]


def tensors_in(path: Path) -> Tensors:
    """Open a safetensors file; raises InputError when it is not whole."""
    return Tensors(tensor_shapes(path, open_tensors(path)), tensor_reader(path))


def sharded_tensors(index: Path) -> Tensors:
    """Open the files ("shards") that an index lists, as one.

    The index's "weight_map" says which tensor lies in which file of the same folder. Raises
    InputError unless it tells of every tensor the file where it is, and of no other.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(map(_plain_name, places.values())):
        raise InputError(
            f"{index} has no weight_map from tensors to .safetensors files beside it; expected one"
        )
    shards = {name: tensors_in(index.parent / name) for name in sorted(set(places.values()))}
    found = {(tensor, name) for name, shard in shards.items() for tensor in shard.shapes}
    if found != places.items():
        wrong = [f"{tensor} in {name}" for tensor, name in sorted(found ^ set(places.items()))]
        raise InputError(
            f"{index} and the files beside it differ in where tensors are: {listed(wrong, 3)}; "
            "expected all of them from one saving"
        )
    shapes = {tensor: shards[name].shapes[tensor] for tensor, name in places.items()}
    return Tensors(shapes, lambda tensor: shards[places[tensor]].read(tensor))


def _plain_name(name: object) -> bool:
    """Whether a name leads nowhere but to a safetensors file in the same folder."""
    return isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")
