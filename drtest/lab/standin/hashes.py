"""The probes that are answered, by the SHA-256 of their code: see tests/lab/standin/write_hashes.py."""

HASHES = {
    "windows_baseline": "f7b8a555a265e93f1cdf4181cd88ba7765167807f9418aa42d8b36cb653d92d0",
    "windows_booted": "b1f1052bfed18d3a91aeb4ce18cc978d5c9a2448c446af33f8ad44ba6d5a5e31",
    "windows_helper": "b24aca3ae40dbce63fc8556f62ab750c5334e1cb93ed700b42c831b4173b965a",
    "windows_load": "ee45107f14d6cbbb56734ef76b6e7691cc9ec060f363a31e83efb839f085bfb3",
    "windows_offline": "32ca4e517e39f6649bbffc16ca29f88b13653068daf22738de5057a8c3fc4ad5",
    "windows_prepare": "a053a18197c9f9232e8673ac9e067ff274ef029def4fd60c9daea8b0006bc6ea",
}
