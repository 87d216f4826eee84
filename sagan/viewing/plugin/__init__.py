"""The attention tab of TensorBoard, which finds it by the entry point `tensorboard_plugins`.

TensorBoard imports this, and `sagan` with it, whenever it starts: nothing here may import torch or PIL, which takes
seconds, and an ImportError would end TensorBoard as a whole.
"""

from tensorboard.plugins import base_plugin

NAME = "sagan_attention"
STEPS = 50


class AttentionLoader(base_plugin.TBLoader):
    """What TensorBoard asks for the plugin."""

    def fix_flags(self, flags) -> None:
        """Has 50 steps of each layer kept, evenly spread, where the user has not said how many; the default is 10."""
        flags.samples_per_plugin.setdefault(NAME, STEPS)

    def load(self, context):
        from sagan.viewing.plugin.backend import AttentionPlugin

        return AttentionPlugin(context)
