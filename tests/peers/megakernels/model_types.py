from dataclasses import dataclass


@dataclass
class BatchState:
    input_ids: object
    position_ids: object = None
    seq_len: int = 0


@dataclass
class ExtraModelConfig:
    interleave_rope: bool = False
    max_len_override: int = 0
    max_batch_size: int = 1
