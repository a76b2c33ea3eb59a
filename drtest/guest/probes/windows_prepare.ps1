# drtest-probe: windows_prepare
# version: 1
# needs: windows_system, windows_canary
# The source made ready for a load: NTFS on its blank volumes, room for the canary on all of them. It can be run again.

$DrtestFloor = 64MB

function Set-DrtestVolume($Disk, $Wanted) {
    # Makes the filesystem where there is none; never on what is not blank. True where it did.
    if ($Disk.IsOffline) { Set-Disk -Number $Disk.Number -IsOffline $false }
    if ($Disk.IsReadOnly) { Set-Disk -Number $Disk.Number -IsReadOnly $false }
    $label = 'drtest' + (Get-DrtestSerial $Wanted.volume_id).Substring(3, 8)
    $own = @(Get-Partition -DiskNumber $Disk.Number -ErrorAction SilentlyContinue | Get-Volume -ErrorAction SilentlyContinue |
            Where-Object { $_.FileSystemLabel -eq $label })
    if ($own.Count) { return $false }
    $raw = New-Object DrtestDisk ('\\.\PhysicalDrive{0}' -f $Disk.Number)
    try { $blank = [DrtestDisk]::IsBlank($raw.Read(0, 1048576)) } finally { $raw.Dispose() }
    if (-not $blank) { throw ('disk {0} is not formatted: its first MiB is not zero' -f $Disk.Number) }
    Initialize-Disk -Number $Disk.Number -PartitionStyle GPT
    $partition = New-Partition -DiskNumber $Disk.Number -UseMaximumSize
    $null = Format-Volume -Partition $partition -FileSystem NTFS -NewFileSystemLabel $label -Confirm:$false
    if ($Wanted.mount -match '^[A-Za-z]:\\?$') { Set-Partition -InputObject $partition -NewDriveLetter $Wanted.mount[0] }
    else { Add-PartitionAccessPath -InputObject $partition -AssignDriveLetter }
    return $true
}

function Get-DrtestMountOf($Disk, $Wanted) {
    # Where the disk's volume is mounted: the one asked for, else the first.
    $paths = @(Get-Partition -DiskNumber $Disk.Number | ForEach-Object { $_.AccessPaths } |
            Where-Object { $_ -and -not $_.StartsWith('\\?\') })
    if ($Wanted -eq '/') { $Wanted = $env:SystemDrive + '\' }
    if ($Wanted) {
        $Wanted = $Wanted.TrimEnd('\') + '\'
        $paths = @($paths | Where-Object { $_ -eq $Wanted })
    }
    if ($paths.Count -eq 0) { throw ('disk {0} is not mounted at {1}' -f $Disk.Number, $Wanted) }
    return $paths[0]
}

function New-DrtestRoom([string]$Directory, [long]$Records) {
    # Real zeros, flushed: writing a record in place changes no metadata then.
    $path = Join-Path $Directory 'records.bin'
    $size = [long]([Math]::Ceiling($Records * 512 / 4096) * 4096)
    $file = New-Object IO.FileStream $path, 'OpenOrCreate', 'ReadWrite', 'None', 4096
    try {
        $room = New-Object IO.DriveInfo ([IO.Path]::GetPathRoot($Directory))
        $needed = $size - $file.Length + 256 * 4096
        $floor = [Math]::Min($DrtestFloor, $room.TotalSize / 20)
        if ($file.Length -lt $size -and $room.AvailableFreeSpace - $needed -lt $floor) {
            throw ('{0} has {1} bytes free: the canary would leave too few' -f $Directory, $room.AvailableFreeSpace)
        }
        $null = $file.Seek(0, 'End')
        $zeros = New-Object byte[] 65536
        while ($file.Length -lt $size) {
            $file.Write($zeros, 0, [int][Math]::Min($zeros.Length, $size - $file.Length))
        }
        $file.Flush($true)
        return [long]($file.Length / 512)
    } finally { $file.Dispose() }
}

function Get-DrtestPrepared($Volume, $Arguments) {
    $disk = Find-DrtestDisk $Volume.volume_id ([double]$Arguments.wait)
    $made = $false
    if ($Volume.filesystem) {
        if ($Volume.filesystem -ne 'ntfs') { throw ('this probe makes no {0}' -f $Volume.filesystem) }
        $made = Set-DrtestVolume $disk $Volume
    }
    $wish = [string]$Volume.mount
    if ($Volume.filesystem -and $wish -notmatch '^[A-Za-z]:\\?$') { $wish = '' }
    $mount = Get-DrtestMountOf $disk $wish
    $directory = $mount + $DrtestFolder
    $null = New-Item -ItemType Directory -Force -Path (Join-Path $directory 'meta')
    $here = @(Get-DrtestMounts | Where-Object { $_.target -eq $mount })[0]
    return @{
        volume_id  = [string]$Volume.volume_id
        device     = '\\.\PhysicalDrive{0}' -f $disk.Number
        serial     = Get-DrtestSerial ([string]$disk.SerialNumber)
        made       = $made
        mount      = $mount
        filesystem = $here.fstype
        uuid       = $here.uuid
        options    = $here.options
        directory  = $directory
        inside     = '/' + $DrtestFolder
        capacity   = New-DrtestRoom $directory ([long]$Arguments.records)
    }
}

function Get-DrtestObservations($Arguments) {
    foreach ($volume in @($Arguments.volumes)) {
        Get-DrtestSeen 'prepare.volume' ([string]$volume.name) 'Format-Volume; preallocate the canary' {
            Get-DrtestPrepared $volume $Arguments
        }
    }
}
