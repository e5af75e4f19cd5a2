"""Batch norms by their running statistics, with the gradient that follows from their definition.

torch's own gradient (2.13) is wrong if a single sample and the gradient on its way back lie differently in memory, as
behind a transposition.
"""

import torch

from erf.graph.torch_private import evaluated_batch_norm


class SoundNorms:
    """Gives the batch norms among nodes of autograd's graph their gradient by its definition, where it may be wrong.

    needed : whether a gradient has come back that lies in memory unlike the tensor that went forward
    """

    def __init__(self, nodes):
        """nodes : of a pass whose gradient is still to be taken"""
        self.needed = False
        for node in nodes:
            if saved := evaluated_batch_norm(node):
                self._watch(node, *saved)

    def _watch(self, node, stride: tuple[int, ...], variance: torch.Tensor, weight, eps: float) -> None:
        def hook(gradients, given):
            if given[0] is None or given[0].stride() == stride:
                return None
            self.needed = True
            gain = torch.rsqrt(variance + eps) if weight is None else weight * torch.rsqrt(variance + eps)
            own = given[0] * gain.view(-1, *[1] * (given[0].dim() - 2))
            return own.to(given[0].dtype), *gradients[1:]

        node.register_hook(hook)
