"""TensorBoard's two loaders over one log directory, and the web application with the attention tab."""

from contextlib import contextmanager

import pytest
from tensorboard.backend import application
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.data import server_ingester
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.util.grpc_util import ChannelCredsType

from sagan.viewing.plugin import NAME, AttentionLoader

LOADERS = ["python", "data server"]


@contextmanager
def loaded(loader, logdir):
    """Return a data provider that has read everything in `logdir`."""
    if loader == "python":
        multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={NAME: 50})
        multiplexer.AddRunsFromDirectory(str(logdir))
        multiplexer.Reload()
        yield data_provider.MultiplexerDataProvider(multiplexer, str(logdir))
        return
    try:
        binary = server_ingester.get_server_binary()
    except server_ingester.NoDataServerError as error:
        pytest.skip(f"TensorBoard's data server is not there: {error}")
    ingester = server_ingester.SubprocessServerDataIngester(
        binary, str(logdir), reload_interval=0, channel_creds_type=ChannelCredsType.LOCAL, samples_per_plugin={NAME: 50}
    )
    ingester.start()  # returns once all is read
    yield ingester.data_provider


def web_application(provider, path_prefix=""):
    """TensorBoard with this one tab."""
    plugin = AttentionLoader().load(TBContext(data_provider=provider))
    return application.TensorBoardWSGI([plugin], path_prefix, provider)
