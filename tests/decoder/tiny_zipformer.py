"""A model with the interface of icefall's streaming zipformer-CTC exports, small and with random weights, and what it
must compute.

The real ones have 20 to 70 million parameters in six stacks. This has what can go wrong in the hands of a caller: an
embedding that hears 13 features beyond the chunk and keeps a left padding, layers with six states each whose batch
lies in two different places, a count of frames behind that masks what a young stream has not seen, two frames made one
at the end. `reference` computes the same without states, by masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, KEYS, LAYERS, KERNEL, TOKENS = 12, 6, 2, 3, 7
CHUNK, LEFT = 16, 20  # frames of 20 ms; what is seen behind is no whole number of chunks
AHEAD = 7 + 2 * 3  # features


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, KEYS), nn.Linear(WIDTH, KEYS)
        self.gate, self.val1, self.val2 = nn.Linear(WIDTH, KEYS), nn.Linear(WIDTH, KEYS), nn.Linear(WIDTH, KEYS)
        self.out = nn.ModuleList([nn.Linear(KEYS, WIDTH) for _ in range(3)])
        self.conv1 = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)

    def forward(self, x: Tensor, states: list[Tensor], mask: Tensor, left: int) -> tuple[Tensor, list[Tensor]]:
        """x: (n, batch, width). states: of `left` frames. mask: (batch or 1, n or 1, left + n), True hides."""
        key = torch.cat([states[0], self.key(x)])
        scores = torch.einsum("qbk,tbk->bqt", self.query(x), key) * 2.0
        weights = scores.masked_fill(mask, -1000.0).softmax(-1)
        gate = torch.cat([states[1], self.gate(x).permute(1, 0, 2).unsqueeze(0)], dim=2)
        val1, val2 = torch.cat([states[2], self.val1(x)]), torch.cat([states[3], self.val2(x)])
        new = [key[key.size(0) - left :], gate[:, :, gate.size(2) - left :]]
        new += [val1[val1.size(0) - left :], val2[val2.size(0) - left :]]
        mixed = [
            torch.einsum("bqt,btk->qbk", weights, torch.tanh(gate.squeeze(0))),
            torch.einsum("bqt,tbk->qbk", weights, val1),
            torch.einsum("bqt,tbk->qbk", weights, val2),
        ]
        for i, out in enumerate(self.out):
            x = x + torch.tanh(out(mixed[i]))
        y = torch.cat([states[4], x.permute(1, 2, 0)], dim=2)
        x = x + torch.tanh(self.conv1(y)).permute(2, 0, 1)
        z = torch.cat([states[5], x.permute(1, 2, 0)], dim=2)
        x = x + torch.tanh(self.conv2(z)).permute(2, 0, 1)
        new += [y[:, :, y.size(2) - 2 :], z[:, :, z.size(2) - 2 :]]
        return x, new


class Encoder(nn.Module):
    """What export.py's StreamingEncoderModel is: the embedding and the stacks."""

    def __init__(self, chunk_size: int = CHUNK) -> None:
        super().__init__()
        self.chunk_size, self.left_context_len, self.pad_length = chunk_size, LEFT, AHEAD
        self.conv1, self.conv2 = nn.Conv1d(80, WIDTH, 3), nn.Conv1d(WIDTH, WIDTH, 3, 2)
        self.conv3, self.conv4 = nn.Conv1d(WIDTH, WIDTH, 3), nn.Conv1d(WIDTH, WIDTH, 7, groups=WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.width, self.keys = WIDTH, KEYS

    def forward(
        self, features: Tensor, feature_lengths: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        x, embedding = self.embedded(features, states[len(states) - 2].squeeze(3))
        lengths = (feature_lengths - 7) // 2 - 3
        assert x.size(0) == self.chunk_size, "not a chunk"
        processed = states[len(states) - 1]
        behind = torch.arange(self.left_context_len, device=x.device).flip(0)
        mask = torch.cat(
            [
                processed.unsqueeze(1) <= behind,
                torch.arange(x.size(0), device=x.device) >= lengths.unsqueeze(1),
            ],
            dim=1,
        )
        after: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, new = layer(x, states[6 * i : 6 * i + 6], mask.unsqueeze(1), self.left_context_len)
            after += new
        after += [embedding.unsqueeze(3), processed + lengths]
        return self.halved(x), (lengths + 1) // 2, after

    @torch.jit.export
    def get_init_states(self, batch_size: int = 1, device: torch.device = torch.device("cpu")) -> list[Tensor]:  # noqa: B008
        left = self.left_context_len
        states: list[Tensor] = []
        for _ in range(len(self.layers)):
            states.append(torch.zeros(left, batch_size, self.keys, device=device))
            states.append(torch.zeros(1, batch_size, left, self.keys, device=device))
            states.append(torch.zeros(left, batch_size, self.keys, device=device))
            states.append(torch.zeros(left, batch_size, self.keys, device=device))
            states.append(torch.zeros(batch_size, self.width, 2, device=device))
            states.append(torch.zeros(batch_size, self.width, 2, device=device))
        states.append(torch.zeros(batch_size, self.width, 3, 1, device=device))
        states.append(torch.zeros(batch_size, dtype=torch.int32, device=device))
        return states

    def embedded(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n, 80) to (n', batch, width), and the padding then; past: (batch, width, 3)."""
        x = (features.transpose(1, 2) + 8.0) / 8.0
        x = torch.relu(self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x))))))
        kept = x.size(2) - 3
        padded = torch.cat([past, x], dim=2)
        x = x[:, :, :kept] + torch.tanh(self.conv4(padded))
        return x.permute(2, 0, 1), padded[:, :, kept : kept + 3]

    def halved(self, x: Tensor) -> Tensor:
        """(n, batch, width) to (batch, n / 2, width)."""
        pairs = x.reshape(x.size(0) // 2, 2, x.size(1), x.size(2))
        return (0.3 * pairs[:, 0] + 0.7 * pairs[:, 1]).permute(1, 0, 2)


class TinyZipformer(nn.Module):
    def __init__(self, chunk_size: int = CHUNK) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = Encoder(chunk_size)
        sharp = nn.Linear(WIDTH, TOKENS)
        sharp.weight.data *= 4.0
        self.ctc_output = nn.Sequential(nn.Dropout(0.1), sharp, nn.LogSoftmax(dim=-1))

    @torch.no_grad()
    def reference(self, features: Tensor) -> Tensor:
        """log_probs (frames, tokens) of whole chunks of features and what is ahead (n, 80), by masks."""
        encoder = self.encoder
        x, _ = encoder.embedded(features[None], torch.zeros(1, WIDTH, 3))
        frame = torch.arange(len(x))
        first = frame // encoder.chunk_size * encoder.chunk_size
        hidden = (frame >= first[:, None] + encoder.chunk_size) | (frame < first[:, None] - LEFT)
        nothing = [
            torch.zeros(0, 1, KEYS),
            torch.zeros(1, 1, 0, KEYS),
            torch.zeros(0, 1, KEYS),
            torch.zeros(0, 1, KEYS),
        ]
        nothing += [torch.zeros(1, WIDTH, 2), torch.zeros(1, WIDTH, 2)]
        for layer in encoder.layers:
            x, _ = layer(x, nothing, hidden[None], 0)
        log_probs: Tensor = self.ctc_output(encoder.halved(x))
        return log_probs[0]
