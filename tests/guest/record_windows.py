"""Records what the .NET parts of the Windows probes do, run by Mono: ``python -m tests.guest.record_windows``.

They run in guests by .NET Framework 4; no test needs Mono. After a change of their C#, install mono-mcs and
mono-runtime and run this; the tests compare the hash of what was recorded with the code.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from drtest.guest import powershell
from drtest.guest.probes import record
from tests.guest.ntfs_bytes import IMAGES

RECORDED = Path(__file__).parent / "recorded" / "windows_dotnet.json"
SERIES, VOLUME = "0123456789abcdef" * 2, "vol-0123456789abcdef0"
RECORDS = (
    record.Record(record.IN_PLACE, 0, 0, 1_795_550_000_123_456_789, SERIES, VOLUME),
    record.Record(record.IN_PLACE, 2**40 + 1, 2**41, 2**62, "f" * 32, "v"),
    record.Record(record.METADATA, 255, 7, 1, SERIES, "vol-" + "a" * 28),
)
MAIN = """
using System; using System.Collections.Generic; using System.IO;
public static class Recording {
    static string Join(List<long> all) { return string.Join(",", all); }
    public static void Main(string[] a) {
        if (a[0] == "encode") {
            DrtestRecord r = new DrtestRecord();
            r.Kind = int.Parse(a[1]); r.Place = long.Parse(a[2]); r.N = long.Parse(a[3]); r.Time = long.Parse(a[4]);
            r.Series = a[5]; r.Volume = a[6];
            Console.Write(Convert.ToBase64String(r.Encode()));
        } else if (a[0] == "disk") {
            using (DrtestDisk disk = new DrtestDisk(a[1])) {
                DrtestTable t = DrtestTable.Of(disk);
                long start = t.Partitions.Count == 0 ? 0 : t.Partitions[0].Start;
                DrtestNtfs n = DrtestNtfs.At(disk, start);
                Console.Write("{0}|{1}|{2}|{3}|{4}|{5}|{6}|{7}|{8}", t.Style, t.Signature, t.Id, start, n.Recognised,
                    n.Serial, n.Flags, n.LogClean, n.Problem);
            }
        } else if (a[0] == "load") {
            StreamWriter o = new StreamWriter(Console.OpenStandardOutput());
            DrtestLoad load = new DrtestLoad(o, 200, 30);
            load.Add(a[1], a[2], a[3]);
            string line;
            while ((line = Console.In.ReadLine()) != null) load.Tell(line);
            load.Stop();
        } else {
            DrtestFound f = DrtestFound.Look(a[1], a[2], a[3]);
            Console.Write("{0}|{1}|{2}|{3}|{4}|{5}|{6}|{7}|{8}|{9}|{10}", f.Present,
                Join(DrtestFound.Ranges(f.Intact)), Join(f.Torn), Join(f.Foreign), Join(DrtestFound.Ranges(f.Stale)),
                f.Last, Join(DrtestFound.Ranges(f.Done)), Join(f.Spoiled), f.Capacity, f.Series, f.Error);
        }
    }
}
"""


def csharp(*modules: str) -> str:
    """The C# inside modules of probes."""
    texts = []
    for module in modules:
        found = re.search(r"@'\n(.*?)\n'@", powershell.source(module), re.DOTALL)
        assert found, module
        texts.append(found[1])
    return "".join(texts)


def code_hash() -> str:
    """The SHA-256 of all C#."""
    return hashlib.sha256(csharp("windows_disk", "windows_record", "windows_canary").encode()).hexdigest()


def spoiled(folder: Path) -> None:
    """A canary with a hole, a torn record, one in the wrong place, one of another load, and files of three kinds."""
    sectors = [
        bytes(512) if n == 2 else record.encode(record.Record(0, n, n, 1000 + n, SERIES, VOLUME))
        for n in range(8)
    ]
    sectors[3] = sectors[3][:256] + bytes(256)
    sectors[5] = sectors[1]
    sectors[6] = record.encode(record.Record(0, 6, 6, 9999, "e" * 32, VOLUME))
    (folder / "records.bin").write_bytes(b"".join(sectors) + bytes(2048))
    meta = folder / "meta"
    meta.mkdir()
    (meta / "3").write_bytes(record.encode(record.Record(1, 3 + 256, 40, 5, SERIES, VOLUME)))
    (meta / "4").write_bytes(record.encode(record.Record(1, 4, 41, 6, SERIES, VOLUME)))
    (meta / "5").write_bytes(b"half")
    (meta / "new").write_bytes(b"never acknowledged")


def recorded(folder: Path) -> dict[str, Any]:
    """Compiles and runs it all."""
    (folder / "disk.cs").write_text(csharp("windows_disk"))
    (folder / "canary.cs").write_text(csharp("windows_record", "windows_canary"))
    (folder / "main.cs").write_text(MAIN)
    program = folder / "all.exe"
    files = [str(folder / name) for name in ("main.cs", "disk.cs", "canary.cs")]
    subprocess.run(["mcs", "-langversion:5", f"-out:{program}", *files], check=True)

    def run(*words: object) -> str:
        return subprocess.run(
            ["mono", program, *map(str, words)], check=True, capture_output=True, text=True
        ).stdout

    disks = {}
    for name, data in IMAGES.items():
        (folder / "image").write_bytes(data)
        disks[name] = run("disk", folder / "image").split("|")
    canary = folder / "canary"
    canary.mkdir()
    spoiled(canary)
    loaded = folder / "loaded"
    (loaded / "meta").mkdir(parents=True)
    (loaded / "records.bin").write_bytes(bytes(512 * 6))
    said = _load(program, loaded)
    return {
        "made_by": "tests/guest/record_windows.py, Mono " + _version(),
        "hash": code_hash(),
        "records": [run("encode", *one) for one in RECORDS],
        "disks": disks,
        "found": run("found", canary, VOLUME, SERIES).split("|"),
        "load": said,
    }


def _load(program: Path, folder: Path) -> list[str]:
    """A load that runs until its file is full; it is asked to end only then."""
    command = ["mono", str(program), "load", VOLUME, str(folder), SERIES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin
        assert load.stdout
        load.stdin.write("go 1795550000000000000\n")
        load.stdin.flush()
        lines = []
        for line in load.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("end "):
                break
        load.stdin.close()
        return lines


def _version() -> str:
    return subprocess.run(
        ["mono", "--version=number"], check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        RECORDED.write_text(json.dumps(recorded(Path(place)), indent=1) + "\n")
