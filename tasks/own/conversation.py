"""Conversations as plain text, and where a prompt ends that two texts have in common.

A conversation is a list of messages, each a dict of `role` and `content`, as in TRL and in chat
templates. GPT-2 has no template of its own, so there is one here that any tokenizer can spell:

    System: Be brief.

    User: What is the capital of France?

    Assistant: Paris

The prompt ends with "Assistant:", and the completion begins with the space behind it and ends with
the end-of-text token.
"""

from collections.abc import Sequence
from itertools import takewhile

import regex

from minigpt.byte_pairs import WORD_PATTERN

Message = dict[str, str]
_WORD = regex.compile(WORD_PATTERN)


def is_conversation(value: object) -> bool:
    """Return whether a value is a list of messages, at least one."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in value
        )
    )


def render(prompt: list[Message], completion: list[Message]) -> tuple[str, str]:
    """Return a conversation as the texts of its prompt and its completion, by the template."""
    messages = [f"{_name(message)}: {message['content']}" for message in prompt + completion]
    text = "\n\n".join(messages)
    begins = len("\n\n".join(messages[: len(prompt)])) + 2 * bool(prompt)
    begins += len(_name(completion[0])) + 1
    return text[:begins], text[begins:]


def shared_messages(chosen: list[Message], rejected: list[Message]) -> int:
    """Return with how many messages both conversations begin."""
    return _shared(chosen, rejected)


def shared_prompt(chosen: str, rejected: str) -> int:
    """Return how many characters of two texts are the prompt that both begin with.

    It is the longest common prefix, cut where a word ends in both texts: there the prompt and the
    rest, tokenised apart, have the tokens of the whole text, in every byte-pair encoding that first
    cuts text into GPT-2's words (`minigpt.byte_pairs.WORD_PATTERN`).
    """
    shared = _shared(chosen, rejected)
    words = [_word_ends(text, shared) for text in (chosen, rejected)]
    for end in sorted(set(words[0]).intersection(words[1]), reverse=True):
        # White space at the very end of a text is cut otherwise than before a word.
        apart = _word_ends(chosen[:end], end)
        if all(apart == [other for other in ends if other <= end] for ends in words):
            return end
    return 0


def _shared(one: Sequence, other: Sequence) -> int:
    """Return how many items both sequences begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other)) if a != b)
    return next(differ, min(len(one), len(other)))


def _word_ends(text: str, last: int) -> list[int]:
    """Return where words of a text end, up to `last`."""
    ends = (word.end() for word in _WORD.finditer(text))
    return list(takewhile(lambda end: end <= last, ends))


def _name(message: Message) -> str:
    return message["role"].capitalize()
