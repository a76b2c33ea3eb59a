# drtest-probe: windows_load
# version: 1
# needs: windows_canary
# The load: records written through and flushed, each acknowledged as it is on the disk; lines as those of load.py.

function Start-DrtestStream([string]$Sent) {
    $arguments = Get-DrtestArguments $Sent
    # Lines end in \n alone, and go out at once.
    $out = New-Object IO.StreamWriter ([Console]::OpenStandardOutput()), (New-Object Text.ASCIIEncoding)
    $out.AutoFlush = $true
    try {
        $load = New-Object DrtestLoad $out, ([double]$arguments.rate), ([double]$arguments.seconds_at_most)
        foreach ($volume in @($arguments.volumes)) {
            $load.Add([string]$volume.volume_id, [string]$volume.directory, [string]$arguments.series)
        }
    } catch {
        $out.Write('end ' + (ConvertTo-DrtestJson @{ reason = 'error: ' + (Get-DrtestProblem $_); records = 0 }) + "`n")
        exit 1
    }
    $script:DrtestLoad = $load
    $clock = ([DateTime]::UtcNow - (New-Object DateTime 1970, 1, 1)).TotalSeconds
    $ready = @{ pid = $PID; clock = $clock; capacity = @($load.Capacities()) }
    $out.Write('ready ' + (ConvertTo-DrtestJson $ready) + "`n")
}

function Send-DrtestLine([string]$Line) { $script:DrtestLoad.Tell($Line) }

function Stop-DrtestStream { $script:DrtestLoad.Stop() }
