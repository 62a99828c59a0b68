"""The configuration of the language model: what may stand in ``workload.config`` of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VOCABULARY = 256
"""The tokens are bytes."""

_ALIGN = 32


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExpertsConfig(_Part):
    """A mixture of experts in place of each dense feed-forward network."""

    count: int = Field(ge=1, le=1024, description="experts per block")
    top_k: int = Field(default=2, ge=1, description="experts that each token is sent to")
    balance: float = Field(
        default=0.01,
        ge=0,
        allow_inf_nan=False,
        description="coefficient of the load-balancing loss; 0 for none",
    )
    z: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="coefficient of the router z-loss; 0 for none",
    )

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(
                f"top_k is {self.top_k}, but there are only {self.count} experts; "
                f"set top_k to 1..{self.count}"
            )
        return self


class DataConfig(_Part):
    """Where the text comes from."""

    source: Literal["python", "folder"] = Field(
        default="python",
        description="python: CPython's documentation topics and the source of its standard "
        "library; folder: the text files below `folder`",
    )
    folder: Path | None = Field(
        default=None,
        description="folder of UTF-8 text files, searched with its subfolders; "
        "a relative path starts at the current folder; "
        "must be at this path on every machine of the job",
    )
    max_bytes: int | None = Field(
        default=None, ge=1, description="bytes of text used at most; none for all there is"
    )
    validation_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="share of the files held back for validation",
    )

    @model_validator(mode="before")
    @classmethod
    def _source_of_folder(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("folder") is not None:
            return {"source": "folder", **given}
        return given

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return folder and folder.expanduser().absolute()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.source == "python" and self.folder is not None:
            raise ValueError(
                f"source is python, yet a folder is given ({self.folder}); leave out one of the two"
            )
        if self.source == "folder" and self.folder is None:
            raise ValueError("source is folder, but no folder is given; add `folder: <path>`")
        return self


class SampleConfig(_Part):
    """The text that the trained model writes at the end of the run."""

    prompt: str = Field(default="def ", description="text that it goes on from")
    bytes: int = Field(default=300, ge=0, le=100_000, description="bytes to write; 0 for none")
    temperature: float = Field(
        default=0.7,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="of the sampling; 0 takes the likeliest byte",
    )


class LMConfig(_Part):
    """A decoder on bytes: its size, its data, and the size of a micro-batch."""

    dim: int = Field(default=128, ge=2, le=65_536, description="width of the model")
    num_layers: int = Field(default=4, ge=1, le=1024, description="number of blocks")
    num_heads: int = Field(default=4, ge=1, le=1024, description="query heads")
    num_kv_heads: int | None = Field(
        default=None, ge=1, description="key and value heads; as many as num_heads if left out"
    )
    hidden: int | None = Field(
        default=None,
        ge=1,
        le=1_048_576,
        description="units of a feed-forward network (of one expert); "
        "8/3 of dim, rounded up to a multiple of 32, if left out",
    )
    context: int = Field(default=128, ge=1, le=1_048_576, description="bytes in a sequence")
    batch_size: int = Field(default=8, ge=1, le=1_048_576, description="sequences in a micro-batch")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, allow_inf_nan=False, description="share of activations dropped"
    )
    tied: bool = Field(
        default=False, description="one weight for the embedding and the output projection"
    )
    rope_base: float = Field(
        default=10_000.0, gt=1, allow_inf_nan=False, description="base of the rotary frequencies"
    )
    experts: ExpertsConfig | None = Field(
        default=None, description="a mixture of experts; dense if left out"
    )
    data: DataConfig = Field(default_factory=DataConfig, description="the text")
    sample: SampleConfig = Field(
        default_factory=SampleConfig, description="the text written at the end"
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.dim % self.num_heads or self.head_dim % 2:
            unit = 2 * self.num_heads
            near = sorted({max(unit, self.dim // unit * unit), (self.dim // unit + 1) * unit})
            raise ValueError(
                f"dim {self.dim} cannot be cut into {self.num_heads} heads of even width; "
                f"dim must be a multiple of {unit} (2 x num_heads), "
                f"such as {' or '.join(map(str, near))}"
            )
        if self.num_heads % self.kv_heads:
            valid = [n for n in range(1, self.num_heads + 1) if self.num_heads % n == 0]
            raise ValueError(
                f"{self.num_heads} query heads cannot share {self.kv_heads} key and value heads; "
                f"num_kv_heads must be one of {', '.join(map(str, valid))}"
            )
        return self

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.num_heads

    @property
    def hidden_units(self) -> int:
        """Units of a feed-forward network."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.dim // (3 * _ALIGN)) * _ALIGN
