# drtest-probe: windows_prelude
# version: 1
# What every probe for Windows stands on: observations, JSON in ASCII, tools with a deadline. PowerShell 4.0 to 5.1.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
Set-StrictMode -Off
$DrtestStart = [DateTime]::UtcNow

function Get-DrtestTime($When) {
    # A time as evidence has it: UTC, microseconds, Z.
    if ($null -eq $When) { return $null }
    return ([DateTime]$When).ToUniversalTime().ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'",
        [Globalization.CultureInfo]::InvariantCulture)
}

function Get-DrtestLeft($Arguments) {
    # Seconds that are left of the visit.
    return [double]$Arguments.seconds - ([DateTime]::UtcNow - $DrtestStart).TotalSeconds
}

function Get-DrtestProblem($Record) {
    # What went wrong: its type and number count, its words are for a person.
    $problem = $Record.Exception
    if ($problem.InnerException) { $problem = $problem.InnerException }
    return '{0} 0x{1:x8}: {2}' -f $problem.GetType().Name, $problem.HResult, $problem.Message
}

function Get-DrtestSeen([string]$DrtestProbe, $DrtestVolume, [string]$DrtestCommand, [scriptblock]$DrtestLook) {
    # One observation; a look that fails says so in its error, and takes no other down. A look sees the variables of
    # this function before those of its own: so the names of these are nobody else's.
    try {
        $DrtestData = & $DrtestLook
        if (-not $DrtestData.ContainsKey('error')) { $DrtestData['error'] = '' }
    } catch { $DrtestData = @{ error = (Get-DrtestProblem $_) } }
    $DrtestAfter = ([DateTime]::UtcNow - $DrtestStart).TotalSeconds
    return @{
        probe = $DrtestProbe; volume = $DrtestVolume; command = $DrtestCommand; after = $DrtestAfter; data = $DrtestData
    }
}

function ConvertTo-DrtestJson($Value) {
    # ConvertTo-Json leaves letters beyond ASCII as they are, and a code page may spoil them on their way.
    $json = ConvertTo-Json -InputObject $Value -Depth 12 -Compress
    return [Text.RegularExpressions.Regex]::Replace($json, '[^\x20-\x7e]', {
            param($match) '\u{0:x4}' -f [int][char]$match.Value })
}

function Invoke-DrtestTool([string]$Program, [string]$Words, [double]$Seconds) {
    # A program's exit code and what it printed, which is shown to people and never read.
    $start = New-Object Diagnostics.ProcessStartInfo
    $start.FileName = $Program
    $start.Arguments = $Words
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardInput = $true
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $process = [Diagnostics.Process]::Start($start)
    # Nothing that asks gets an answer.
    $process.StandardInput.Close()
    $out = $process.StandardOutput.ReadToEndAsync()
    $err = $process.StandardError.ReadToEndAsync()
    $ended = $process.WaitForExit([int]([Math]::Max(1, $Seconds) * 1000))
    if (-not $ended) { try { $process.Kill() } catch { $null = $_ } }
    $text = ''
    if ($out.Wait(5000)) { $text += $out.Result }
    if ($err.Wait(5000)) { $text += $err.Result }
    if ($text.Length -gt 8000) { $text = $text.Substring($text.Length - 8000) }
    $code = $null
    $problem = ''
    if ($ended) { $code = [int]$process.ExitCode }
    else { $problem = '{0} did not end in {1:f0} s' -f $Program, $Seconds }
    return @{ exit = $code; output = $text; error = $problem }
}

function Get-DrtestArguments([string]$Sent) {
    return ConvertFrom-Json ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($Sent)))
}

function Invoke-DrtestProbe([string]$Sent) {
    # A visit: the probe's own module says what there is to see.
    $seen = @(Get-DrtestObservations (Get-DrtestArguments $Sent))
    return ConvertTo-DrtestJson @{ seen = $seen }
}
