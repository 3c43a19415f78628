"""What a TorchScript archive and an array file may contain. Nothing is extracted; runs in the admission child.

TorchScript is code. Its language has no import, but two of its operators reach files: `aten::from_file` maps one and
`aten::save` writes one; and custom operators of libraries that happen to be loaded are within reach. Those are refused.
"""

from __future__ import annotations

import io
import re
import tokenize
import zipfile
from typing import BinaryIO

from export.admission_limits import AdmissionLimits
from export.contracts.errors import AdmissionRefused
from export.package_files import is_safe_path

MAX_CODE_BYTES = 64 << 20
OPERATOR_NAMESPACES = frozenset({"aten", "prim", "quantized", "_quantized", "prepacked", "sparse", "mkldnn_prepacked"})
FORBIDDEN_ATTRIBUTES = frozenset({"from_file", "save", "_save", "load", "classes_from_file"})
_KNOWN = re.compile(
    r"(\w+\.pkl|\w+/\d+|version|byteorder|\.data/[\w.]+|\.format_version|\.storage_alignment"
    r"|code/[\w./-]+|extra/[\w./-]+)"
)


def check_torchscript(file: BinaryIO, limits: AdmissionLimits) -> dict[str, int]:
    """Check the structure and the code of a TorchScript archive.

    Raises:
        AdmissionRefused: names the rule.
    """
    with _archive(file, "TorchScript", limits) as archive:
        infos = archive.infolist()
        tops = {info.filename.split("/", 1)[0] for info in infos}
        if len(tops) != 1:
            raise AdmissionRefused("TorchScript: entries do not lie in one folder")
        inner = {info.filename.split("/", 1)[-1] for info in infos}
        for name in inner:
            if not _KNOWN.fullmatch(name):
                raise AdmissionRefused(f"TorchScript: entry '{name[:60]!r}' does not belong there")
        for needed in ("data.pkl", "constants.pkl"):
            if needed not in inner:
                raise AdmissionRefused(f"TorchScript: entry '{needed}' is missing: it is a pickle or a plain archive")
        code = [info for info in infos if "/code/" in info.filename and info.filename.endswith(".py")]
        if not code:
            raise AdmissionRefused("TorchScript: there is no code: it is a pickle or a plain archive")
        if sum(info.file_size for info in code) > MAX_CODE_BYTES:
            raise AdmissionRefused(f"TorchScript: more than {MAX_CODE_BYTES} bytes of code")
        for info in code:
            try:
                check_code(archive.read(info).decode("utf-8"))
            except (UnicodeDecodeError, zipfile.BadZipFile, EOFError, OSError):
                raise AdmissionRefused("TorchScript: a code entry cannot be read") from None
        return {"entries": len(infos), "code_bytes": sum(info.file_size for info in code)}


def check_code(text: str) -> None:
    """Refuse code that reaches for files or for custom operators.

    Raises:
        AdmissionRefused: names what it reaches for.
    """
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
    try:
        tokens = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in skipped]
    except (tokenize.TokenError, SyntaxError):
        raise AdmissionRefused("TorchScript: the code cannot be read") from None
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else ""
        after = tokens[i + 1 : i + 4]
        if before == "." and token in FORBIDDEN_ATTRIBUTES:
            raise AdmissionRefused(f"TorchScript: the code uses '{token}', which reaches files")
        if token == "ops" and before != "." and not _is_accepted_operator(after):
            raise AdmissionRefused("TorchScript: the code uses an operator of a namespace that is not accepted")
        if token == "classes" and before == "." and after[:2] != [".", "quantized"]:
            raise AdmissionRefused("TorchScript: the code uses a custom class")
        if token == "torch" and before != "." and after[:1] != ["."]:
            raise AdmissionRefused("TorchScript: the code gives 'torch' another name")


def _is_accepted_operator(after: list[str]) -> bool:
    return len(after) == 3 and after[0] == after[2] == "." and after[1] in OPERATOR_NAMESPACES


def check_arrays(file: BinaryIO, limits: AdmissionLimits) -> dict[str, int]:
    """Check an array file: plain arrays only, none that would need pickle.

    Raises:
        AdmissionRefused: names the rule.
    """
    from numpy.lib import format as npy

    with _archive(file, "arrays", limits) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                raise AdmissionRefused("arrays: an entry is no array")
            try:
                with archive.open(info) as member:
                    version = npy.read_magic(member)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(member)
            except (ValueError, EOFError, zipfile.BadZipFile, OSError):
                raise AdmissionRefused("arrays: an entry cannot be read") from None
            if dtype.hasobject:
                raise AdmissionRefused("arrays: an entry holds Python objects (pickle)")
            size = dtype.itemsize
            for n in shape:
                size *= int(n)
            if size > info.file_size:
                raise AdmissionRefused("arrays: an entry is shorter than its shape needs")
        return {"arrays": len(archive.infolist())}


def _archive(file: BinaryIO, label: str, limits: AdmissionLimits) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError):
        raise AdmissionRefused(f"{label}: not a readable archive") from None
    infos = archive.infolist()
    if len(infos) > limits.archive_entries:
        raise AdmissionRefused(f"{label}: more than {limits.archive_entries} entries")
    if sum(info.file_size for info in infos) > limits.archive_bytes:
        raise AdmissionRefused(f"{label}: inflates to more than {limits.archive_bytes} bytes")
    seen: set[str] = set()
    for info in infos:
        # zipfile shortens a name at NUL; the original shows it.
        name = info.orig_filename
        if not is_safe_path(name.replace(":", "_") if label == "arrays" else name) and not _is_array_name(label, name):
            raise AdmissionRefused(f"{label}: an entry's name is not a plain relative path")
        if name in seen:
            raise AdmissionRefused(f"{label}: entry '{name[:60]}' is there twice")
        seen.add(name)
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise AdmissionRefused(f"{label}: entry '{name[:60]}' is encrypted or of an unknown compression")
    return archive


def _is_array_name(label: str, name: str) -> bool:
    """Array entries are named by tensors, which may hold any printable character, but are never paths to somewhere."""
    return label == "arrays" and name.isprintable() and ".." not in name and not name.startswith("/")
