"""Configuration: a run's options, and how they are read and written. Imports no torch."""

from sagan.config.errors import ConfigError, DamagedError, UntrustedCode, UserError
from sagan.config.reading import Setting, file_settings, flatten, override_settings, read, to_config, updated
from sagan.config.schema import (
    DRAWN,
    STORED,
    AttentionConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    DiscriminatorConfig,
    EvaluationConfig,
    ExtractorConfig,
    GeneratorConfig,
    LoggingConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from sagan.config.writing import refuse_changes, to_yaml

__all__ = [
    "DRAWN",
    "STORED",
    "AttentionConfig",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DamagedError",
    "DataConfig",
    "DiscriminatorConfig",
    "EvaluationConfig",
    "ExtractorConfig",
    "GeneratorConfig",
    "LoggingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Setting",
    "TrainingConfig",
    "UntrustedCode",
    "UserError",
    "file_settings",
    "flatten",
    "override_settings",
    "read",
    "refuse_changes",
    "to_config",
    "to_yaml",
    "updated",
]
