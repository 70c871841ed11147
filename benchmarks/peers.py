"""The usual stack's side of a measurement: TRL's trainers over transformers and PEFT.

Everything is left as users find it, but for what would cost the peers time that is not the step's
(logs, reports, checkpoints) and for what would make the comparison one of two different things:
gradient checkpointing, which TRL switches on by default, and which trades time for memory, is off.
"""

import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.job import (
    ALPHA,
    BETA,
    DTYPES,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    NEW_TOKENS,
    SAMPLING,
    WARM_UP,
    Job,
    clock,
    time_each,
    worker,
)

END_OF_TEXT = "<|endoftext|>"


class StepTimer(TrainerCallback):
    """Times forward, backward and optimizer, without fetching data."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: list[float] = []
        self.first: float | None = None  # when the first step of all began

    def on_step_begin(self, args, state, control, **kwargs):
        self.first = self.first or time.time()
        self.begun = clock(self.device)

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(clock(self.device) - self.begun)


def measure_training(job: Job, launched: float) -> dict:
    """Seconds of each counted step, and what came before the first of all."""
    timer = StepTimer(job.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = (_sft if job.objective == "sft" else _dpo)(job, folder)
        trainer.add_callback(timer)
        loss = trainer.train().training_loss
    return {
        "seconds": timer.seconds[WARM_UP:],
        "loss": loss,
        "start_up_seconds": timer.first - launched,
    }


def measure_generation(job: Job, launched: float) -> dict:
    """Seconds of each counted batch of continuations."""
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=DTYPES[job.precision])
    model.to(job.device).eval()
    model.generation_config.eos_token_id = None  # random weights may end a text at any moment
    temperature, top_p = SAMPLING[job.data]
    prompts = torch.tensor(job.prompts(), device=job.device)
    begun = time.time()
    torch.manual_seed(0)
    answers = (
        model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=NEW_TOKENS,
            do_sample=True,
            temperature=temperature,
            top_p=top_p or 1.0,
            top_k=0,
            pad_token_id=0,
        )
        for _ in range(WARM_UP + job.steps)
    )
    seconds, texts = zip(*time_each(answers, job.device))
    return {
        "seconds": seconds[WARM_UP:],
        "tokens": texts[-1].numel() - prompts.numel(),
        "start_up_seconds": begun - launched,
    }


def _sft(job: Job, folder: str) -> Trainer:
    """Loss on the completion alone, which the mask tells; the tokens are taken as they are."""
    examples = Dataset.from_list(
        [
            {
                "input_ids": e["prompt"] + e["chosen"],
                "completion_mask": [0] * len(e["prompt"]) + [1] * len(e["chosen"]),
            }
            for e in job.examples()
        ]
    )
    return SFTTrainer(
        str(job.model),
        args=SFTConfig(folder, completion_only_loss=True, **_settings(job)),
        train_dataset=examples,
        processing_class=_tokenizer(job),
        peft_config=_adapters(job),
    )


def _dpo(job: Job, folder: str) -> Trainer:
    """The reference is TRL's default: a copy of the model; under LoRA the model without adapter."""
    text = Dataset.from_list([dict.fromkeys(("prompt", "chosen", "rejected"), END_OF_TEXT)])
    trainer = DPOTrainer(
        str(job.model),
        args=DPOConfig(folder, beta=BETA, **_settings(job)),
        train_dataset=text,
        processing_class=_tokenizer(job),
        peft_config=_adapters(job),
    )
    # DPOTrainer takes text only, and would add an end-of-text to answers of one token.
    trainer.train_dataset = Dataset.from_list(
        [{f"{name}_ids": tokens for name, tokens in e.items()} for e in job.examples()]
    )
    return trainer


def _settings(job: Job) -> dict:
    return {
        "per_device_train_batch_size": job.batch,
        "max_steps": WARM_UP + job.steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": MAX_GRAD_NORM,
        "bf16": job.precision == "bf16",
        "use_cpu": job.device == "cpu",
        "gradient_checkpointing": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": job.device == "cuda",
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _adapters(job: Job) -> LoraConfig | None:
    if job.rank is None:
        return None
    return LoraConfig(
        r=job.rank,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        fan_in_fan_out=True,
        target_modules=["c_attn", "c_proj", "c_fc"],  # c_proj is the attention's and the MLP's
        task_type="CAUSAL_LM",
    )


def _tokenizer(job: Job) -> PreTrainedTokenizerFast:
    """The least that a trainer asks of a tokenizer: an end of text, which also pads."""
    last = AutoConfig.from_pretrained(job.model).vocab_size - 1
    words = models.WordLevel({END_OF_TEXT: last}, unk_token=END_OF_TEXT)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


if __name__ == "__main__":
    worker(measure_training, measure_generation)
