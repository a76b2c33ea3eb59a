# drtest-probe: windows_offline
# version: 1
# needs: windows_system, windows_canary
# Copy A on a helper: each volume as it lies while its disk is offline, then online, then checked. The copy is written
# to, and never booted afterwards.

$DrtestHives = @('SYSTEM', 'SOFTWARE', 'SAM', 'SECURITY', 'DEFAULT')

function Get-DrtestBefore($Disk, $Volume) {
    # Raw bytes of an offline disk: Windows replays the log as soon as it is online.
    $device = '\\.\PhysicalDrive{0}' -f $Disk.Number
    $raw = New-Object DrtestDisk $device
    try {
        $table = [DrtestTable]::Of($raw)
        $starts = @($table.Partitions | ForEach-Object { @{ number = $_.Number; start = $_.Start; size = $_.Size } })
        if ($table.Style -eq 'none') { $starts = @(@{ number = 0; start = 0; size = $Disk.Size }) }
        $all = @()
        foreach ($one in $starts) {
            $ntfs = [DrtestNtfs]::At($raw, $one.start)
            if (-not $ntfs.Recognised) { continue }
            $all += @{
                partition = $one.number; start = $one.start; size = $one.size; uuid = $ntfs.Serial
                flags = $ntfs.Flags; log_clean = $ntfs.LogClean; problem = $ntfs.Problem
            }
        }
    } finally { $raw.Dispose() }
    $main = @($all | Sort-Object { $_.uuid -ne [string]$Volume.uuid }, { -$_.size })[0]
    $data = @{
        device = $device; disk = $device; serial = Get-DrtestSerial ([string]$Disk.SerialNumber)
        filesystem = $null; uuid = ''; dirty_log = $null; error_flag = $false; unknown_features = @()
        tools = @{ chkdsk = [Environment]::OSVersion.Version.ToString() }; output = ''; notes = @()
        was_offline = [bool]$Disk.IsOffline; signature = $table.Signature; guid = $table.Id; volumes = $all
    }
    if ($main) {
        $data.filesystem = 'ntfs'
        $data.uuid = $main.uuid
        $data.partition = $main.partition
        if ($main.flags -ge 0 -and $main.log_clean -ge 0) {
            $data.dirty_log = (($main.flags -band 1) -ne 0) -or ($main.log_clean -eq 0)
        }
        if ($main.problem) { $data.notes = @([string]$main.problem) }
    } else { $data.error = 'no NTFS is recognised on it' }
    return $data
}

function Get-DrtestOnline($Disk, $Before, $Arguments) {
    # Online, writable; the first look at the volume mounts it, and that replays its log.
    if ($Disk.IsReadOnly) { Set-Disk -Number $Disk.Number -IsReadOnly $false }
    Set-Disk -Number $Disk.Number -IsOffline $false
    Update-HostStorageCache -ErrorAction SilentlyContinue
    $path = ''
    $until = [DateTime]::UtcNow.AddSeconds(30)
    while (-not $path) {
        $partitions = @(Get-Partition -DiskNumber $Disk.Number -ErrorAction SilentlyContinue)
        if ($Before.partition) { $partitions = @($partitions | Where-Object { $_.PartitionNumber -eq $Before.partition }) }
        $path = [string](@($partitions | ForEach-Object { $_.AccessPaths } | Where-Object { "$_".StartsWith('\\?\') })[0])
        if (-not $path -and [DateTime]::UtcNow -ge $until) { throw 'its volume did not appear' }
        if (-not $path) { Start-Sleep -Milliseconds 500 }
    }
    $folder = Join-Path $env:SystemDrive ('\drtest-a\' + [Guid]::NewGuid().ToString('n'))
    $null = New-Item -ItemType Directory -Force -Path $folder
    # A long log on a volume that is loaded lazily takes its time.
    $ran = Invoke-DrtestTool 'mountvol.exe' ('"{0}" {1}' -f $folder, $path) ((Get-DrtestLeft $Arguments) * 0.5)
    if ($null -eq $ran.exit) { $script:DrtestStuck += 'mountvol' }
    if ($ran.exit -ne 0) { throw ('mountvol ended with {0}: {1} {2}' -f $ran.exit, $ran.error, $ran.output.Trim()) }
    # What is no mount point is a folder of the helper's own, and its emptiness says nothing of the volume.
    $point = [IO.FileAttributes]::ReparsePoint
    if (([IO.File]::GetAttributes($folder) -band $point) -ne $point) { throw 'mountvol made no mount point' }
    $until = [DateTime]::UtcNow.AddSeconds(30)
    while ($true) {
        $why = ''
        try { $null = [IO.Directory]::GetFileSystemEntries($folder) } catch { $why = Get-DrtestProblem $_ }
        if (-not $why -or [DateTime]::UtcNow -ge $until) { break }
        Start-Sleep -Milliseconds 1000
    }
    return @{ path = $path.TrimEnd('\'); folder = $folder; exit = [int][bool]$why; why = $why }
}

function Get-DrtestHive([string]$Folder, [string]$Name) {
    # Two sequence numbers that differ show a hive that was being written: normal; one that can't be loaded is not.
    $file = Join-Path $Folder ('Windows\System32\config\' + $Name)
    if (-not [IO.File]::Exists($file)) { return $null }
    $hive = @{ name = $Name; exit = $null; dirty = $null; error = '' }
    try {
        $head = New-Object byte[] 12
        $stream = New-Object IO.FileStream $file, 'Open', 'Read', 'ReadWrite'
        try { $null = $stream.Read($head, 0, 12) } finally { $stream.Dispose() }
        $hive.regf = [Text.Encoding]::ASCII.GetString($head, 0, 4) -eq 'regf'
        $hive.dirty = [BitConverter]::ToUInt32($head, 4) -ne [BitConverter]::ToUInt32($head, 8)
    } catch { $hive.error = Get-DrtestProblem $_ }
    # No key that an earlier hive may still hold: one that is taken would look like a hive that can't be loaded.
    $key = 'HKLM\drtest_' + $Name + '_' + [Guid]::NewGuid().ToString('n')
    $hive.exit = (Invoke-DrtestTool 'reg.exe' ('load {0} "{1}"' -f $key, $file) 120).exit
    if ($hive.exit -eq 0) {
        # A key that is still open anywhere keeps it from being unloaded.
        [GC]::Collect()
        $hive.unloaded = (Invoke-DrtestTool 'reg.exe' ('unload ' + $key) 60).exit
        if ($hive.unloaded -ne 0) { $script:DrtestStuck += $Name }
    }
    # Nobody knows what a load that was killed has left.
    if ($null -eq $hive.exit) { $script:DrtestStuck += $Name }
    return $hive
}

function Get-DrtestCheck($Online, $Arguments, $Volume) {
    # Without /f, 3 says errors or no check at all; only a run with /f tells which, by its number.
    $first = Invoke-DrtestTool 'chkdsk.exe' ('"{0}"' -f $Online.path) ((Get-DrtestLeft $Arguments) * 0.5)
    $check = @{ tool = 'chkdsk'; exit = $first.exit; readonly_exit = $first.exit; output = $first.output; error = $first.error }
    $canary = $null
    if ($Volume.canary) {
        $asked = $Volume.canary
        $canary = Get-DrtestSeen 'canary.found' ([string]$Volume.name) 'read the canary' {
            Get-DrtestCanary $Online.folder ([string]$asked.inside) ([string]$asked.volume_id) ([string]$asked.series)
        }
    }
    $hives = @($DrtestHives | ForEach-Object { Get-DrtestHive $Online.folder $_ } | Where-Object { $_ })
    if ($first.exit -eq 3) {
        $second = Invoke-DrtestTool 'chkdsk.exe' ('"{0}" /f /x' -f $Online.path) ((Get-DrtestLeft $Arguments) * 0.8)
        $check.tool = 'chkdsk /f'
        $check.exit = $second.exit
        $check.error = $second.error
        $check.output += "`n" + $second.output
    }
    return @{ check = $check; canary = $canary; hives = $hives }
}

function Get-DrtestExamined($Volume, $Arguments) {
    $name = [string]$Volume.name
    $disk = $null
    $before = Get-DrtestSeen 'filesystem.before' $name 'read \\.\PhysicalDriveN while it is offline' {
        $script:DrtestDiskFound = Find-DrtestDisk $Volume.volume_id ([double]$Volume.wait)
        Get-DrtestBefore $script:DrtestDiskFound $Volume
    }
    $before
    $disk = $script:DrtestDiskFound
    if ($before.data.error) {
        foreach ($stage in 'filesystem.replay', 'filesystem.check', 'canary.found') {
            if ($stage -eq 'canary.found' -and -not $Volume.canary) { continue }
            Get-DrtestSeen $stage $name $stage { @{ error = [string]$before.data.error } }
        }
        return
    }
    $replay = Get-DrtestSeen 'filesystem.replay' $name 'Set-Disk -IsOffline $false; the first look mounts it' {
        $online = Get-DrtestOnline $disk $before.data $Arguments
        $script:DrtestOnline = $online
        @{
            method = 'mount'; exit = $online.exit; why = $online.why; output = $online.why
            replayed = [bool]($before.data.dirty_log -and $online.exit -eq 0)
        }
    }
    $replay
    if ($replay.data.error) {
        Get-DrtestSeen 'filesystem.check' $name 'chkdsk' { @{ error = [string]$replay.data.error } }
        if ($Volume.canary) { Get-DrtestSeen 'canary.found' $name 'read the canary' { @{ error = [string]$replay.data.error } } }
        return
    }
    $found = @{ canary = $null; hives = @() }
    Get-DrtestSeen 'filesystem.check' $name 'chkdsk, reg load' {
        $result = Get-DrtestCheck $script:DrtestOnline $Arguments $Volume
        $script:DrtestFoundNow = $result
        $check = $result.check
        $check.hives = @($result.hives)
        $check
    }
    if ($script:DrtestFoundNow) { $found = $script:DrtestFoundNow }
    if ($found.canary) { $found.canary }
    $null = Invoke-DrtestTool 'mountvol.exe' ('"{0}" /D' -f $script:DrtestOnline.folder) 60
    Set-Disk -Number $disk.Number -IsOffline $true -ErrorAction SilentlyContinue
}

function Get-DrtestObservations($Arguments) {
    # What could not be given back: such a helper must not judge the next copy.
    $script:DrtestStuck = @()
    foreach ($volume in @($Arguments.volumes)) {
        $script:DrtestDiskFound = $null
        $script:DrtestFoundNow = $null
        Get-DrtestExamined $volume $Arguments
    }
    Get-DrtestSeen 'helper.kernel' $null 'Get-Disk' {
        @{ stuck = @($script:DrtestStuck); oops = $false; messages = @(); disks = @(Get-DrtestDisks) }
    }
}
