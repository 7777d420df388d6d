"""Which files are one model: a prototxt and the weights that fit it, a symbol and its parameters, a graph and its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from converters.errors import ConversionError, FormatError, printable
from converters.files import map_file
from converters.formats import places_of, recognize
from converters.migration.trees.models import Found, Listed, Seen
from converters.migration.trees.nets import Nets

ALONE = {
    "t7": "torch7",
    "t7-ascii": "torch7",
    "onnx": "onnx",
    "torch-zip": "pytorch",
    "torchscript": "pytorch",
    "torch-stream": "pytorch",
    "torch-tar": "pytorch",
    "pickle": "pytorch",
    "tensorflow-graph": "tensorflow",
    "tensorflow-text": "tensorflow",
}
"""Kinds of files that are a model by themselves, and their format."""
ARCHIVES = ("zip", "zip-of-checkpoint", "tar", "gzip", "bzip2", "xz")
_BROKEN = ("git-lfs", "html", "xml", "error-text", "zeros", "unknown", "text", "empty", "json")
_MODEL_NAMES = (".caffemodel", ".caffemodel.h5", ".t7", ".pth", ".pt", ".pth.tar", ".onnx", ".params", ".safetensors", ".ckpt.meta")
_NO_NET = "weights alone, with no net beside them; --to weights writes them"
_EPOCH = re.compile(r"(.*)-(\d{4,})\.params", re.DOTALL)
_UNPACKED = ("version", "byteorder", "constants.pkl", ".format_version", ".storage_alignment")
"""What else torch.save puts into a zip, beside data.pkl and the storages."""
NEARBY = 20
"""Prototxts of neighboring folders that are looked at."""


class Pairing:
    """Makes models of the files of a tree. file_of: a file of the tree on this machine."""

    def __init__(self, seen: Iterable[Seen], file_of: Callable[[str], str], *, epochs: str, weights: bool) -> None:
        self.seen = {one.path: one for one in seen}
        self.file_of, self.epochs, self.weights = file_of, epochs, weights
        self.found: list[Found] = []
        self.listed: list[Listed] = []
        self._claimed: set[str] = set()
        self._folders: dict[str, list[Seen]] = {}
        for one in self.seen.values():
            self._folders.setdefault(one.folder, []).append(one)
        self._parents: dict[str, list[str]] = {}
        for folder in self._folders:
            if folder:
                self._parents.setdefault(folder.rpartition("/")[0], []).append(folder)

    def pair(self) -> tuple[list[Found], list[Listed]]:
        """The models, and everything else, both by path."""
        self._caffe()
        self._mxnet()
        self._tensorflow()
        self._in_parts()
        for one in self.seen.values():
            if one.path not in self._claimed and one.kind in ALONE:
                self._add(ALONE[one.kind], one, [one], self._beside(one))
        for one in self.seen.values():
            if one.path not in self._claimed:
                self._rest(one)
        key = {path: number for number, path in enumerate(self.seen)}
        return sorted(self.found, key=lambda f: key[f.source]), sorted(self.listed, key=lambda f: key[f.seen.path])

    def _add(self, format: str, source: Seen, paths: Sequence[Seen], more: Sequence[Seen] = (), *, weights_only: bool = False) -> None:
        files = tuple(dict.fromkeys([*paths, *more]))
        self.found.append(Found(source.path, format, tuple(one.path for one in paths), files, weights_only))
        self._claimed.update(one.path for one in files)

    def _list(self, seen: Seen, reason: str, *, is_broken: bool = False) -> None:
        self.listed.append(Listed(seen, reason, is_broken))
        self._claimed.add(seen.path)

    def _alone(self, format: str, one: Seen, why: str = "", more: Sequence[Seen] = ()) -> None:
        """Weights that have no net."""
        if self.weights:
            self._add(format, one, [one], more, weights_only=True)
        else:
            self._list(one, f"{_NO_NET}{why}")
            for other in more:
                self._list(other, f"a part of {printable(one.name)}")

    def _rest(self, one: Seen) -> None:
        """What nothing has claimed."""
        if one.kind == "safetensors":
            self._alone("safetensors", one)
        elif one.kind in ("prototxt", "mxnet-symbol"):
            self._list(one, "a net that no weights here are for, or whose weights another net here takes")
        elif one.kind in ARCHIVES:
            self._list(one, "an archive; --archives looks inside")
        else:
            is_broken = one.kind in _BROKEN and one.name.lower().endswith(_MODEL_NAMES)
            self._list(one, f"this is {one.words}" + (f"; {one.hint}" if one.hint else ""), is_broken=is_broken)

    # -- Caffe -----------------------------------------------------------------------------------------------------------

    def _caffe(self) -> None:
        nets = Nets(self.file_of)
        for one in list(self.seen.values()):
            if one.kind not in ("caffemodel", "hdf5"):
                continue
            if one.kind == "hdf5" and not nets.is_caffe(one):
                continue
            why = ""
            for level in self._levels(one):
                choice = nets.choose(one, level)
                if choice.net is not None:
                    self._add("caffe", one, [choice.net, one])
                    break
                if choice.is_unclear:
                    self._list(one, choice.reason)
                    break
                why = why or choice.reason
            else:
                self._alone("caffe", one, f" ({why})" if why else "")

    def _levels(self, one: Seen) -> Iterable[list[Seen]]:
        """Prototxts in the order in which they are tried: the same folder's, or where it has none those below it, above it, beside it."""
        here = one.folder
        if own := self._nets_in([here]):
            yield own
            return
        yield self._nets_in(self._parents.get(here, ()))[:NEARBY]
        if here:
            above = here.rpartition("/")[0]
            yield self._nets_in([above])
            yield self._nets_in(folder for folder in self._parents.get(above, ()) if folder != here)[:NEARBY]

    def _nets_in(self, folders: Iterable[str]) -> list[Seen]:
        return [
            one
            for folder in folders
            for one in self._folders.get(folder, ())
            if one.kind == "prototxt" or (one.kind in ("text", "unknown") and one.name.endswith(".prototxt"))
        ]

    # -- MXNet -----------------------------------------------------------------------------------------------------------

    def _mxnet(self) -> None:
        series: dict[tuple[str, str], list[tuple[int, Seen]]] = {}
        for one in self.seen.values():
            if one.kind == "mxnet-params":
                match = _EPOCH.fullmatch(one.name)
                series.setdefault((one.folder, match[1] if match else one.name), []).append((int(match[2]) if match else 0, one))
        for (folder, prefix), epochs in series.items():
            epochs.sort(key=lambda pair: pair[0])
            newest = epochs[-1][1]
            for _, one in epochs if self.epochs == "all" else epochs[-1:]:
                self._with_symbol(one, folder, prefix)
            for _, one in epochs[:-1] if self.epochs != "all" else ():
                self._list(one, f"an older epoch than {printable(newest.name)}; --epochs all takes them all")

    def _with_symbol(self, one: Seen, folder: str, prefix: str) -> None:
        beside = self._folders.get(folder, ())
        own = [other for other in beside if other.name == f"{prefix.removesuffix('.params')}-symbol.json"]
        if own:
            self._add("mxnet", one, [own[0], one])
            return
        symbols = [other for other in beside if other.kind == "mxnet-symbol"]
        fitting = [other for other in symbols if self._is_of_symbol(other, one)]
        if len(fitting) == 1:
            self._add("mxnet", one, [fitting[0], one])
        elif fitting:
            self._list(one, f"several symbols fit: {', '.join(printable(other.name) for other in fitting[:6])}")
        else:
            self._alone("mxnet", one, " (the symbols beside them have other names)" if symbols else "")

    def _is_of_symbol(self, symbol: Seen, params: Seen) -> bool:
        from converters.readers.mxnet.params import read_params
        from converters.readers.mxnet.symbol import read_symbol

        try:
            names = {node.name for node in read_symbol(self.file_of(symbol.path)).nodes if node.is_variable}
            return names >= set(read_params(self.file_of(params.path))) != set()
        except ConversionError:
            return False

    # -- TensorFlow ------------------------------------------------------------------------------------------------------

    def _tensorflow(self) -> None:
        for one in list(self.seen.values()):
            if one.kind == "tensorflow-savedmodel":
                inside = [other for other in self.seen.values() if other.folder == f"{one.folder}/variables".removeprefix("/")]
                self._add("tensorflow", one, [one], inside)
        for one in sorted(self.seen.values(), key=lambda one: not one.path.endswith(".index")):  # its shards are taken for the index
            if one.path in self._claimed or one.kind not in ("tensorflow-checkpoint", "tensorflow-checkpoint-text"):
                continue
            if one.kind == "tensorflow-checkpoint-text":
                self._list(one, f"this is {one.words}")
                continue
            self._checkpoint(one)

    def _checkpoint(self, one: Seen) -> None:
        """A checkpoint: its index with its shards, or an old one, with the graph of its name."""
        prefix = one.path.removesuffix(".index")
        beside = self._folders[one.folder]
        shards = [other for other in beside if re.fullmatch(re.escape(prefix) + r"(\.data)?-\d{5}-of-\d{5}", other.path)]
        if one in shards and shards[0] is not one:
            return  # the first stands for all
        graphs = [other for other in beside if other.path == f"{re.sub(r'-[0-9]{5}-of-[0-9]{5}$', '', prefix)}.meta"]
        named = [other for other in beside if other.kind in ("tensorflow-text", "tensorflow-graph", "tensorflow-meta")]
        if not graphs and len(named) == 1 and sum(other.kind == "tensorflow-checkpoint" for other in beside) == 1:
            graphs = named
        if graphs:
            self._add("tensorflow", one, [graphs[0], one], shards)
        else:
            self._alone("tensorflow", one, more=shards)

    # -- PyTorch's in several files ----------------------------------------------------------------------------------------

    def _in_parts(self) -> None:
        """Indices with the files that they name, torch.distributed.checkpoint's folders, and zip checkpoints that somebody unpacked."""
        for one in list(self.seen.values()):
            beside = self._folders[one.folder]
            if one.kind == "shards":
                named = self._named_in(one)
                self._alone("safetensors", one, more=[other for other in beside if other.name in named])
            elif one.kind == "pickle" and one.name == ".metadata":
                self._alone("pytorch", one, more=[other for other in beside if other.name.endswith(".distcp")])
            elif one.kind == "pickle" and one.name == "data.pkl":
                start = f"{one.folder}/" if one.folder else ""
                storages = [other for name in ("data", "tensors") for other in self._folders.get(f"{start}{name}", ())]
                if storages:
                    small = [other for other in beside if other.name in _UNPACKED] + self._folders.get(f"{start}.data", [])
                    self._add("pytorch", one, [one], [*storages, *small])

    def _named_in(self, index: Seen) -> set[str]:
        try:
            return set(places_of(recognize(self.file_of(index.path))).values())
        except ConversionError:
            return set()  # the index itself is what fails

    # -- ONNX ------------------------------------------------------------------------------------------------------------

    def _beside(self, one: Seen) -> list[Seen]:
        """The files beside an ONNX model that hold its tensors."""
        if one.kind != "onnx" or len(self._folders[one.folder]) + len(self._parents.get(one.folder, ())) == 1:
            return []
        from converters.readers.onnx.tensors import external_files

        try:
            places = external_files(map_file(self.file_of(one.path)), one.path)
        except (ConversionError, FormatError):
            return []
        start = f"{one.folder}/" if one.folder else ""
        return [self.seen[f"{start}{place}"] for place in places if f"{start}{place}" in self.seen]
