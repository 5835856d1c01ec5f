"""Conversations as tokens: what is supervised is the assistant's words and the end of its turns, whatever the template."""

import pytest

import ckpt

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
MARKED = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
INSTRUCT = "{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + '</s>' }}{% endif %}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
THINKING = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
COUNTED = "{{ messages | length }}{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"

TALK = [
    {"role": "user", "content": "one plus one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "two plus one"},
    {"role": "assistant", "content": "it is three"},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    bare = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None, byte_fallback=False))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
    )
    bare.train_from_iterator(["one plus one is two", "it is three", "assistant user"], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>", additional_special_tokens=["<|im_start|>", "<|im_end|>"])


def spoken(tokenizer, sample):
    return [tokenizer.decode(list(sample.input_ids[start:stop])) for start, stop in sample.supervised]


@pytest.mark.parametrize(
    ("template", "turns"),
    [
        (CHATML, ["two<|im_end|>", "it is three<|im_end|>"]), (MARKED, ["two<|im_end|>", "it is three<|im_end|>"]),
        (INSTRUCT, [" two</s>", " it is three</s>"]), (PLAIN, ["two", "it is three"]),
    ],
)  # fmt: skip
def test_turns(tokenizer, template, turns):
    tokenizer.chat_template = template
    sample, one = ckpt.probe_from_messages(tokenizer, [TALK, {"id": "x", "messages": TALK[:2]}])
    assert [turn.strip() for turn in spoken(tokenizer, sample)] == [turn.strip() for turn in turns]
    assert [turn.strip() for turn in spoken(tokenizer, one)] == [turns[0].strip()] and (sample.id, one.id) == ("0", "x")
    assert list(sample.input_ids) == tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False)


def test_a_last_turn_that_thinks(tokenizer):
    tokenizer.chat_template = THINKING
    (sample,) = ckpt.probe_from_messages(tokenizer, [TALK])
    found = spoken(tokenizer, sample)
    assert found[0] == "two<|im_end|>" and found[1].endswith("it is three<|im_end|>")


def test_refusals(tokenizer, store):
    tokenizer.chat_template = COUNTED
    with pytest.raises(ValueError, match="conversation a"):
        ckpt.probe_from_messages(tokenizer, [{"id": "a", "messages": TALK}])
    tokenizer.chat_template = CHATML
    with pytest.raises(ValueError, match="no supervised token"):
        ckpt.probe_from_messages(tokenizer, [TALK[:1]])
    with pytest.raises(ValueError, match="within 3"):
        ckpt.probe_from_messages(tokenizer, [TALK], max_length=3)
    (cut,) = ckpt.probe_from_messages(tokenizer, [TALK], max_length=20)
    assert len(cut.input_ids) == 20 and spoken(tokenizer, cut)[0] == "two<|im_end|>"
    added = store.add_probe("chat", ckpt.probe_from_messages(tokenizer, [TALK, TALK[:2]], ids=["a", "b"]))
    assert added["samples"] == 2 and [sample.id for sample in store.probe("chat")] == ["a", "b"]
