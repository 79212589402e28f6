"""Import onnxruntime in one place, with telemetry off, and refuse a broken one.

By default, onnxruntime writes a device id and an event database below the home folder,
a file below TMPDIR, and in a longer session looks up its collector's address.
`mlguard/__init__.py` turns that off before anything else is imported, however the
library is entered; a test watches the files that commands leave.
"""

from mlguard.errors import MissingRuntime

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _ort

    onnxruntime.InferenceSession  # noqa: B018  # what pip leaves of it lacks this
except Exception as error:  # not installed, half-removed, built for another numpy …
    reason = str(error).partition("\n")[0] or type(error).__name__
    raise MissingRuntime(f"onnxruntime cannot be imported: {reason}") from None

LEAST = (1, 24)  # as in pyproject.toml: the first that takes tensors from memory
if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < LEAST:
    raise MissingRuntime(
        f"onnxruntime {onnxruntime.__version__} is too old, expected "
        f"{'.'.join(map(str, LEAST))} or later",
        hint="run `pip install --upgrade` on the package that `mlguard doctor` names",
    )

__all__ = ["ORT_ERRORS", "onnxruntime"]

# onnxruntime's exceptions share no base but Exception.
ORT_ERRORS = (
    _ort.EPFail,
    _ort.Fail,
    _ort.InvalidArgument,
    _ort.InvalidGraph,
    _ort.InvalidProtobuf,
    _ort.NoModel,
    _ort.NoSuchFile,
    _ort.NotFound,
    _ort.NotImplemented,
    _ort.RuntimeException,
    RuntimeError,
    ValueError,
)
