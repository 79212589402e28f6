"""The processes of `torchrun`, which share the work.

They exchange bytes, not objects: nothing is ever pickled.
"""

from dataclasses import dataclass, field

import torch
from accelerate import Accelerator


@dataclass(frozen=True)
class Crew:
    """The processes, seen from one of them.

    Attributes:
        rank: The number of this one, from 0; the first one writes and prints.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1
    _engine: Accelerator | None = field(default=None, repr=False)

    @classmethod
    def of(cls, engine: Accelerator) -> "Crew":
        """Return the processes that Accelerate found."""
        return cls(engine.process_index, engine.num_processes, engine)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the bytes of all processes, in the order of their ranks.

        Every process must call it as often as the others.
        """
        if self._engine is None or self.size == 1:
            return [data]
        device = self._engine.device
        own = torch.frombuffer(bytearray(data + b"\0"), dtype=torch.uint8).to(device)
        lengths = self._engine.gather(torch.tensor([len(data)], device=device))
        padded = self._engine.pad_across_processes(own, dim=0)
        rows = self._engine.gather(padded).reshape(self.size, -1).cpu().numpy()
        pairs = zip(rows, lengths.tolist(), strict=True)
        return [row[:length].tobytes() for row, length in pairs]


ALONE = Crew()
