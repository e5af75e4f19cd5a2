"""The one exception that means "the input is wrong, not the code"."""


class InputError(ValueError):
    """A mistake in what the user gave: a setting, a file, a model. Its message names the thing and the fix."""
