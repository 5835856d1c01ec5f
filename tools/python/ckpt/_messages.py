"""Conversations as tokens, by the chat template of any tokenizer of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

from ._probes import ProbeSample, supervised_ranges

Messages = Sequence[Mapping[str, Any]]


def probe_from_messages(
    tokenizer: Any, conversations: Iterable[Union[Messages, Mapping[str, Any]]], *, ids: Optional[Sequence[str]] = None,
    max_length: Optional[int] = None, **template: Any,
) -> list[ProbeSample]:  # fmt: skip
    """Samples for `Store.add_probe`, one for each conversation: a list of messages, or a mapping with `messages` and perhaps `id`, `tools`.

    Of each assistant turn its content and its end-of-turn token are supervised; headers are not. A template that marks what an assistant
    generates is taken at its word; of any other the turns are found by rendering the conversation up to each. `template` goes to
    `tokenizer.apply_chat_template`. Samples over `max_length` tokens are cut at the right.

    Raises ValueError, naming the conversation, for one without a supervised token, and for a template that changes what came before when
    a turn is added, so that turns cannot be told apart.
    """
    samples: list[ProbeSample] = []
    for index, conversation in enumerate(conversations):
        options = dict(template)
        name = ids[index] if ids is not None else str(index)
        if isinstance(conversation, Mapping):
            if ids is None:
                name = str(conversation.get("id", index))
            if conversation.get("tools") is not None:
                options["tools"] = conversation["tools"]
            conversation = conversation["messages"]
        tokens, mask = _tokens(tokenizer, list(conversation), options, name)
        if max_length is not None:
            tokens, mask = tokens[:max_length], mask[:max_length]
        # Nothing predicts the first token.
        if mask:
            mask[0] = False
        ranges = supervised_ranges(mask)
        if not ranges:
            raise ValueError(f"conversation {name}: no supervised token{'' if max_length is None else f' within {max_length}'}")
        samples.append(ProbeSample(name, tuple(tokens), tuple(ranges)))
    return samples


def _tokens(tokenizer: Any, messages: list[Mapping[str, Any]], options: dict[str, Any], name: str) -> tuple[list[int], list[bool]]:
    if "{% generation" in _template_text(tokenizer, options).replace("{%-", "{%").replace("{%  ", "{% "):
        made = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **options)
        return list(made["input_ids"]), [bool(flag) for flag in made["assistant_masks"]]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    spans = [_span(tokenizer, messages, place, text, options, name) for place, message in enumerate(messages) if message["role"] == "assistant"]
    # The template writes the special tokens itself.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # A token that has a character of a turn is one of it: a blank before the first word is often part of that word's token.
    mask = [any(start < end and stop > first for first, end in spans) for start, stop in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), mask


def _template_text(tokenizer: Any, options: dict[str, Any]) -> str:
    template = options.get("chat_template") or getattr(tokenizer, "chat_template", None) or ""
    return template if isinstance(template, str) else str(template)


def _span(
    tokenizer: Any, messages: list[Mapping[str, Any]], place: int, text: str, options: dict[str, Any], name: str
) -> tuple[int, int]:  # fmt: skip
    """Where the assistant's turn `place` is in the text: behind its header, up to and with its end-of-turn token."""

    def rendered(**more: Any) -> str:
        return str(tokenizer.apply_chat_template(messages[:place], tokenize=False, **more, **options)) if place else ""

    content = (messages[place].get("content") or "").strip()
    start = len(rendered(add_generation_prompt=True))
    if not place or text[:start] != rendered(add_generation_prompt=True):
        # Some templates open a turn otherwise when it is to be generated (with a tag for thoughts, say): then it begins with its content.
        before = rendered()
        start = text.find(content, len(before)) if content and text.startswith(before) else -1
    # What a template writes before the content, thoughts say, is the assistant's too.
    spoken = text.find(content, start) if start >= 0 else -1
    if spoken < 0:
        raise ValueError(f"conversation {name}: turn {place} is not in what the template makes of all turns as it is in what it makes of those up to it")
    return start, _end(tokenizer, text, spoken + len(content))


def _end(tokenizer: Any, text: str, content_end: int) -> int:
    """Where a turn ends: behind the first special token that follows its content at once; where none does, with the content."""
    marks = {token for token in tokenizer.all_special_tokens if token}
    marks |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if getattr(token, "special", False)}
    begin = content_end + len(text[content_end:]) - len(text[content_end:].lstrip())
    ends = [begin + len(mark) for mark in marks if text.startswith(mark, begin)]
    return max(ends) if ends and not _opens(text, begin, content_end) else content_end


def _opens(text: str, begin: int, content_end: int) -> bool:
    """Whether a mark after a line break belongs to what follows: it opens the next turn."""
    return "\n" in text[content_end:begin]
