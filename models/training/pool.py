"""Journey: chunks of speech -> ROWS on the training device: what the pools of sound (live.py) and of spectra (spectra.py) share."""
import numpy as np
import torch


class Rows:
    """Tokens with their times, and where content and tokens of each row lie; takes at most `most` rows of `hours` together."""

    def __init__(self, device, hours, most):
        self.device = device
        self.ids = torch.zeros(int(hours * 3600 * 20) + 1, dtype=torch.uint8, device=device)
        self.times = torch.zeros(len(self.ids), device=device)
        self.used = self.tokens = self.utterances = 0
        self.rows = np.zeros((most, 4), np.int64)                           # content start, its size, token start, tokens
        self.level = np.zeros(most, np.float32)

    def take(self, held, content, size, chunk):
        """Puts a chunk's `content`, rows of `size` one behind the other, into `held`: the slice of the new rows, None if it is full."""
        ids, k = chunk["ids"], len(size)
        end = self.used + len(content), self.tokens + len(ids), self.utterances + k
        if end[0] > len(held) or end[1] > len(self.ids) or end[2] > len(self.rows):
            return None
        new = slice(self.utterances, end[2])
        held[self.used:end[0]] = torch.from_numpy(content).to(self.device)
        self.ids[self.tokens:end[1]] = torch.from_numpy(ids).to(self.device)
        self.times[self.tokens:end[1]] = torch.from_numpy(chunk["times"]).to(self.device)
        for column, first, sizes in ((0, self.used, size), (2, self.tokens, chunk["count"])):
            self.rows[new, column] = first + np.cumsum(sizes) - sizes
            self.rows[new, column + 1] = sizes
        self.level[new] = chunk["level"]
        self.used, self.tokens, self.utterances = end
        return new
