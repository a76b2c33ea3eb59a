"""Targets: `drtest.toml` is read with all its mistakes told at once, and the lab is a target like any other."""

import re
from pathlib import Path
from typing import Any

import pytest

from drtest.cloud.logins import Secrets, WinrmLogin
from drtest.cloud.secrets import SecretRef
from drtest.cloud.settings import SettingsError
from drtest.cloud.targets import ImageRef, Target, choose, lab_target, load_targets
from drtest.errors import UsageError
from drtest.words import Os

README = Path(__file__).parents[2] / "scenarios" / "README.md"

SMALL = """\
[targets.prod]
region = "eu-central-1"
subnet = "subnet-0123456789abcdef0"
"""


def written(text: str, folder: Path) -> Path:
    file = folder / "drtest.toml"
    file.write_text(text)
    return file


def mistakes(text: str, folder: Path) -> list[str]:
    file = written(text, folder)
    with pytest.raises(SettingsError) as caught:
        load_targets(file)
    assert str(caught.value).splitlines() == list(caught.value.mistakes)
    return [mistake.removeprefix(f"{file}:") for mistake in caught.value.mistakes]


def test_the_example_in_the_readme_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    target = load_targets(written(example, tmp_path))["drills"]
    assert target.name == "drills"
    assert target.profile == "drills"
    assert target.images["golden"] == ImageRef(id="ami-0123456789abcdef0")
    assert target.scratch_images[Os.WINDOWS].ssm == (
        "/aws/service/ami-windows-latest/Windows_Server-2022-English-Full-Base"
    )
    assert target.instance_type_for(Os.WINDOWS) == "t3.large"
    assert (target.login_linux.user, target.login_linux.address, target.login_linux.port) == (
        "admin",
        "private",
        22,
    )
    assert target.login_linux.key.file == str(Path.home() / ".ssh" / "drtest")
    assert (target.login_for(Os.LINUX).port, target.login_for(Os.WINDOWS).port) == (22, 5986)
    assert target.limits.drills == 4
    assert target.endpoint_url is None


def test_the_example_that_init_writes_is_read_with_its_lines_for_windows_too(tmp_path: Path) -> None:
    example = (README.parents[1] / "drtest" / "cli" / "example.toml").read_text()
    keys = r"windows|user|password|fingerprint|ca|address|port|\[targets\.production\.login\.windows(\.copies)?\]"
    whole = re.sub(rf"^# (?=({keys})( = |$))", "", example, flags=re.MULTILINE)
    target = load_targets(written(whole, tmp_path))["production"]
    assert target.helper_images[Os.WINDOWS] != target.images["windows"]
    assert (target.login_windows.user, target.login_windows.port) == ("Administrator", 5986)
    assert target.login_windows.ca == str(tmp_path / "house-ca.pem")
    assert target.login_windows.copies is not None
    assert target.login_windows.copies.password == SecretRef(secret="drtest/windows-local")


def test_every_setting_of_a_target_is_heeded() -> None:
    source = README.parents[1] / "drtest"
    code = "".join(file.read_text() for part in ("cloud", "drill") for file in (source / part).glob("*.py"))
    idle = [one for one in Target.model_fields if not re.search(rf"\b(target|self)\.{one}\b", code)]
    assert idle == []


def test_what_can_be_left_out_has_a_sane_default(tmp_path: Path) -> None:
    target = load_targets(written(SMALL, tmp_path))["prod"]
    assert target.instance_type_for(Os.LINUX) == "t3.small"
    assert target.poll_seconds == 5.0
    for os in Os:
        said = f"does not say how {os.title()} servers are logged in to"
        with pytest.raises(UsageError, match=said) as refusal:
            target.login_for(os)
        assert f"[targets.prod.login.{os}]" in refusal.value.remedy


def test_one_instance_type_can_stand_for_all_systems(tmp_path: Path) -> None:
    target = load_targets(written(SMALL + 'instance_type = "m7i.large"\n', tmp_path))["prod"]
    assert {target.instance_type_for(os) for os in Os} == {"m7i.large"}


def test_the_file_is_looked_for_here_and_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    written(SMALL, tmp_path)
    monkeypatch.chdir(below)
    assert list(load_targets()) == ["prod"]


def test_without_a_file_there_is_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drtest.cloud.settings.find", lambda start: None)
    assert load_targets() == {}


def test_a_path_is_seen_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = SMALL + '[targets.prod.login.linux]\nkey = {file = "keys/id"}\n'
    target = load_targets(written(text, tmp_path))["prod"]
    assert target.login_linux.key.file == str(tmp_path / "keys" / "id")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SMALL.replace("targets", "target"),
            ["1: target: unknown key 'target'; did you mean targets?"],
        ),
        (
            SMALL + "profile = 1\n",
            ['4: targets.prod.profile: 1 where a text is meant; write "1" in quotes if it is meant'],
        ),
        (
            SMALL.replace("region", "regoin"),
            ["2: targets.prod.regoin: unknown key 'regoin'; did you mean region?"],
        ),
        (
            SMALL.replace("subnet =", "# subnet ="),
            ['1: targets.prod.subnet: subnet is missing; write subnet = "subnet-0123456789abcdef0"'],
        ),
        (
            SMALL.replace("eu-central-1", "Frankfurt"),
            ["2: targets.prod.region: 'Frankfurt' can't stand here; write it as eu-central-1"],
        ),
        (
            SMALL.replace("prod", "Prod"),
            [
                "1: targets.Prod: 'Prod' can't be a name: small letters, digits and single dashes, at most 63; "
                "write prod"
            ],
        ),
        (
            SMALL.replace("prod", "lab"),
            ["1: targets.lab: the target lab is built in; give this one another name"],
        ),
        (
            SMALL + 'name = "x"\n',
            ["4: targets.prod.name: unknown key 'name'; the target's name stands in its header"],
        ),
        (
            SMALL + 'images.web = "ami-0123456789abcdef0"\n',
            [
                "4: targets.prod.images.web: the text 'ami-0123456789abcdef0' where keys with values are meant; "
                "write keys as id, ssm"
            ],
        ),
        (
            SMALL + "[targets.prod.images]\n\nweb = {}\n",
            [
                '6: targets.prod.images.web: an image is named in one way; write {id = "ami-…"} or '
                '{ssm = "/aws/service/…"}'
            ],
        ),
        (
            SMALL + "[targets.prod.scratch_images]\nlinx = {id = 'ami-01234567'}\n",
            ["5: targets.prod.scratch_images.linx: unknown word 'linx'; did you mean linux?"],
        ),
        (
            SMALL + 'external_id = "x"\n',
            ["1: targets.prod: external_id goes with a role; write role_arn too, or take it out"],
        ),
        (
            SMALL + 'profile = "x"\ncredentials = {access_key = "a", secret_key = {env = "B"}}\n',
            ["1: targets.prod: credentials stands beside profile or role_arn; keep one way to log in to AWS"],
        ),
        (SMALL + "poll = 5\n", ["4: targets.prod.poll: 5 has no unit; write 5s if that is meant"]),
        (
            SMALL + "[targets.prod.login.linux]\nkey = {env = 'K'}\nport = 70000\naddress = 'pubic'\n",
            [
                "6: targets.prod.login.linux.port: 70000 is too large; 65535 is the most",
                "7: targets.prod.login.linux.address: unknown word 'pubic'; did you mean public?",
            ],
        ),
        ("[targets.prod\n", ["1:14: this is not TOML; expected ']' at the end of a table declaration"]),
    ],
)
def test_a_mistake_names_its_line_its_key_and_what_was_meant(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    assert mistakes(text, tmp_path) == expected


LITERAL = (
    "a secret can't stand in the file itself; write {file = …}, {env = …}, {secret = …} (Secrets Manager) or "
    "{parameter = …} (SSM)"
)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"hunter2!"', LITERAL),
        ("47110815", LITERAL),
        (
            '{env = "hunter2!"}',
            "what stands here is no name of an environment variable; write one as DRTEST_PASSWORD",
        ),
        (
            '{file = "hunter2!\\nhunter2!"}',
            "what stands here is no path of a file; write one as ~/.ssh/drtest",
        ),
        ('{value = "hunter2!"}', "unknown key 'value'; write one of: file, env, secret, parameter"),
        (
            '{env = "A", file = "b"}',
            "a secret is kept in one place; write {file = …}, {env = …}, {secret = …} ",
        ),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_shown(value: str, said: str, tmp_path: Path) -> None:
    text = SMALL + f"[targets.prod.login.windows]\npassword = {value}\n"
    found = mistakes(text, tmp_path)
    assert any(said in mistake for mistake in found)
    assert all(mistake.startswith("5: targets.prod.login.windows.password") for mistake in found)
    assert "hunter2" not in "".join(found)
    assert "47110815" not in "".join(found)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """\
[targets.a]
regoin = "eu-central-1"
subnet = "net-1"

[targets.b]
region = "eu-central-1"
subnet = "subnet-01234567"
login.linux = {user = 1, key = "x"}
"""
    assert [mistake.split(";")[0] for mistake in mistakes(text, tmp_path)] == [
        "2: targets.a.regoin: unknown key 'regoin'",
        "3: targets.a.subnet: 'net-1' can't stand here",
        "8: targets.b.login.linux.key: a secret can't stand in the file itself",
        "8: targets.b.login.linux.user: 1 where a text is meant",
    ]


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml: can't be read \(No such file or directory\)"):
        load_targets(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match="is not UTF-8 at byte 5; save it as UTF-8"):
        load_targets(tmp_path / "bad.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(SettingsError, match="this is not TOML"):
        load_targets(tmp_path / "deep.toml")


def test_an_unknown_target_names_the_nearest(tmp_path: Path) -> None:
    targets = load_targets(written(SMALL, tmp_path))
    assert choose(targets, "prod") is targets["prod"]
    with pytest.raises(UsageError, match=r"no target 'pord'; did you mean prod\?"):
        choose(targets, "pord")


def test_a_system_without_an_instance_type_is_told(tmp_path: Path) -> None:
    target = load_targets(written(SMALL + 'instance_type = {linux = "t3.small"}\n', tmp_path))["prod"]
    with pytest.raises(UsageError, match="names no instance type for windows"):
        target.instance_type_for(Os.WINDOWS)


STATUS: dict[str, Any] = {
    "endpoint": "http://127.0.0.1:41000",
    "region": "us-east-1",
    "access_key": "LABKEY",
    "secret_key": "lab-secret-that-nobody-sees",
    "images": {"linux": "ami-0123456789abcdef0"},
    "accelerator": "tcg",
    "machines": [],
    "key_file": "/home/someone/.cache/drtest/key",
    "password_file": "/home/someone/.cache/drtest/windows-password",
    "key_name": "lab",
    "zone": "us-east-1a",
    "subnet": "subnet-0123456789abcdef0",
}


def test_the_lab_is_a_target_like_any_other() -> None:
    target = lab_target(STATUS)
    assert isinstance(target, Target)
    assert (target.name, target.region) == ("lab", "us-east-1")
    assert target.endpoint_url == "http://127.0.0.1:41000"
    assert target.images["linux"].id == "ami-0123456789abcdef0"
    assert target.scratch_images == target.helper_images == {Os.LINUX: ImageRef(id="ami-0123456789abcdef0")}
    login = target.login_linux
    assert (login.user, login.address, login.port) == ("admin", "public", 2222)
    assert login.key.file == "/home/someone/.cache/drtest/key"
    windows = target.login_windows
    assert (windows.user, windows.address, windows.port) == ("Administrator", "public", 5986)
    assert windows.password == SecretRef(file="/home/someone/.cache/drtest/windows-password")


def test_the_labs_helper_for_windows_comes_from_an_image_of_its_own() -> None:
    windows, helper = "ami-0123456789abcdef1", "ami-0123456789abcdef2"
    images = {**STATUS["images"], "windows": windows, "windows-helper": helper}
    target = lab_target({**STATUS, "images": images})
    assert target.scratch_images[Os.WINDOWS].id == windows
    assert target.helper_images[Os.WINDOWS].id == helper
    assert target.helper_images[Os.LINUX] == target.scratch_images[Os.LINUX]


def test_the_password_of_windows_is_read_where_the_target_says(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    login = '[targets.prod.login.windows]\npassword = {file = "password"}\n'
    target = load_targets(written(SMALL + login, tmp_path))["prod"]
    (secrets,) = target.login_secrets().values()
    assert secrets.password == "s3cret"
    assert "s3cret" not in repr(target) + repr(secrets)


CERTIFIED = 'auth = "certificate"\ncertificate = "me.pem"\ncertificate_key = {file = "me.key"}\n'
LOGIN = "[targets.prod.login.windows]\n"
COPIES = "[targets.prod.login.windows.copies]\n"


def test_a_certificate_to_log_in_by_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    target = load_targets(written(SMALL + LOGIN + CERTIFIED, tmp_path))["prod"]
    assert target.login_windows.certificate == str(tmp_path / "me.pem")
    with pytest.raises(UsageError, match=r"The certificate .*me\.pem is not there"):
        target.login_secrets()
    (tmp_path / "me.pem").touch()
    with pytest.raises(UsageError, match=r"The key .*me\.key is not there"):
        target.login_secrets()
    (tmp_path / "me.key").touch()
    (secrets,) = target.login_secrets().values()
    assert secrets == Secrets(certificate_key=tmp_path / "me.key")


@pytest.mark.parametrize("auth", ["kerberos", "credssp"])
def test_a_login_by_the_domain_is_for_selected_servers_and_copies_have_their_own(
    auth: str, tmp_path: Path
) -> None:
    password = 'password = {file = "password"}\n'
    source = f'auth = "{auth}"\nuser = "drtest@EXAMPLE.COM"\n' + (password if auth == "credssp" else "")
    target = load_targets(written(SMALL + LOGIN + source + COPIES + password, tmp_path))["prod"]
    (tmp_path / "password").write_text("s3cret")
    copies = target.login_for(Os.WINDOWS)
    selected = target.login_for(Os.WINDOWS, ours=False)
    assert isinstance(copies, WinrmLogin)
    assert isinstance(selected, WinrmLogin)
    assert (selected.auth, selected.user) == (auth, "drtest@EXAMPLE.COM")
    assert (copies.auth, copies.user) == ("ntlm", "Administrator")
    secrets = target.login_secrets()
    assert secrets[copies].password == "s3cret"
    assert secrets[selected].password == ("s3cret" if auth == "credssp" else "")


def test_without_a_login_of_their_own_copies_are_logged_in_to_as_their_source(tmp_path: Path) -> None:
    target = load_targets(written(SMALL + LOGIN + CERTIFIED, tmp_path))["prod"]
    assert target.login_for(Os.WINDOWS) == target.login_for(Os.WINDOWS, ours=False)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("", 'password is missing for a login by ntlm; write password = {secret = "drtest/windows"}'),
        ('auth = "certificate"\n', "certificate is missing for a login by certificate; write certificate = "),
        (
            CERTIFIED.replace("certificate_key", "# "),
            'certificate_key is missing for a login by certificate; write certificate_key = {file = "drtest.key"}',
        ),
        (CERTIFIED + 'password = {env = "P"}\n', "a login by certificate has no password; take it out"),
        (
            CERTIFIED.replace('"certificate"', '"ntlm"') + 'password = {env = "P"}\n',
            "a login by ntlm has no certificate; take it out, or write another auth",
        ),
        ('auth = "kerberos"\n', 'a login by kerberos needs a principal; write user = "drtest@EXAMPLE.COM"'),
        (
            'auth = "credssp"\npassword = {env = "P"}\n',
            "credssp needs a domain controller, which an isolated copy can't reach: it is for selected servers alone; "
            "write below login.windows.copies how copies are logged in to, as a local account",
        ),
        (
            'auth = "kerberos"\nuser = "a@B"\n' + COPIES + 'auth = "kerberos"\nuser = "a@B"\n',
            "kerberos needs a domain controller, which an isolated copy can't reach; write ntlm or certificate, "
            "and log in as a local account",
        ),
        ('auth = "kerbros"\n', "unknown word 'kerbros'; did you mean kerberos?"),
    ],
)
def test_a_login_that_can_not_work_is_refused_with_what_is_missing(
    login: str, said: str, tmp_path: Path
) -> None:
    (found,) = mistakes(SMALL + LOGIN + login, tmp_path)
    assert said in found


def test_the_labs_secret_is_held_and_never_shown() -> None:
    from drtest.cloud.secrets import resolve_secret

    target = lab_target(STATUS)
    assert target.credentials is not None
    assert resolve_secret(target.credentials.secret_key) == "lab-secret-that-nobody-sees"
    shown = repr(target) + str(target) + target.model_dump_json() + str(target.credentials.secret_key)
    assert "lab-secret" not in shown
