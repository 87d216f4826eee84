"""The attention tab of TensorBoard, which finds it by the entry point `tensorboard_plugins`.

TensorBoard imports this module, and `sagan` with it, whenever it starts. So nothing here may import torch or PIL, which
takes seconds, and an ImportError would stop TensorBoard altogether.
"""

from typing import Any

from tensorboard.plugins import base_plugin

NAME = "sagan_attention"
STEPS = 50


class AttentionLoader(base_plugin.TBLoader):
    """The object with which TensorBoard loads the plugin."""

    def fix_flags(self, flags: Any) -> None:
        """Keep 50 evenly spread steps of each layer unless the user says otherwise; TensorBoard's default is 10."""
        flags.samples_per_plugin.setdefault(NAME, STEPS)

    def load(self, context: Any) -> Any:
        from sagan.viewing.plugin.backend import AttentionPlugin

        return AttentionPlugin(context)
