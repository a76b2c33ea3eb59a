# drtest-probe: windows_system
# version: 1
# needs: windows_disk
# The running system: which machine and which boot it is, its services, its volumes, what could explain a difference.

function Get-DrtestSmbios([int]$Type, [int]$Offset) {
    # A string of the raw SMBIOS table (DSP0134): Nitro's board asset tag is of type 2, at offset 8.
    $table = [byte[]](Get-WmiObject -Namespace root\wmi -Class MSSmBios_RawSMBiosTables).SMBiosData
    $place = 0
    while ($place + 4 -le $table.Length) {
        $kind = $table[$place]
        $length = $table[$place + 1]
        if ($length -lt 4) { break }
        $strings = @()
        $next = $place + $length
        $text = ''
        while ($next -lt $table.Length) {
            if ($table[$next] -ne 0) { $text += [char]$table[$next]; $next++; continue }
            if ($text -eq '') { if ($strings.Count -eq 0) { $next++ } ; $next++; break }
            $strings += $text
            $text = ''
            $next++
            if ($next -lt $table.Length -and $table[$next] -eq 0) { $next++; break }
        }
        if ($kind -eq $Type -and $Offset -lt $length) {
            $number = $table[$place + $Offset]
            if ($number -ge 1 -and $number -le $strings.Count) { return $strings[$number - 1].Trim() }
        }
        if ($kind -eq 127) { break }
        $place = $next
    }
    return ''
}

function Get-DrtestHttp([string]$Path, [string]$Method, [hashtable]$Headers) {
    $ask = [Net.HttpWebRequest]::Create('http://169.254.169.254/latest/' + $Path)
    $ask.Method = $Method
    $ask.Timeout = 2000
    $ask.Proxy = $null
    if ($Method -eq 'PUT') { $ask.ContentLength = 0 }
    foreach ($name in $Headers.Keys) { $ask.Headers.Add($name, $Headers[$name]) }
    $answer = $ask.GetResponse()
    $reader = New-Object IO.StreamReader -ArgumentList ($answer.GetResponseStream())
    try { return $reader.ReadToEnd().Trim() } finally { $answer.Close() }
}

function Get-DrtestImds {
    # The instance's id by IMDSv2, where the board names none; two seconds, no proxy.
    try {
        $token = Get-DrtestHttp 'api/token' 'PUT' @{ 'X-aws-ec2-metadata-token-ttl-seconds' = '60' }
        return Get-DrtestHttp 'meta-data/instance-id' 'GET' @{ 'X-aws-ec2-metadata-token' = $token }
    } catch { return '' }
}

function Get-DrtestBoot {
    # When this boot began: Windows has no boot id, so this is it.
    $system = Get-WmiObject Win32_OperatingSystem
    return $system.ConvertToDateTime($system.LastBootUpTime)
}

function Get-DrtestRootSerials {
    # Serials of the disk that the system lies on, by each of the ways that show one.
    $letter = $env:SystemDrive.Substring(0, 1)
    $number = (Get-Partition -DriveLetter $letter).DiskNumber
    $all = @([string](Get-Disk -Number $number).SerialNumber)
    $all += @(Get-WmiObject Win32_DiskDrive -Filter "Index=$number" | ForEach-Object { [string]$_.SerialNumber })
    return @($all | ForEach-Object { Get-DrtestSerial $_ } | Where-Object { $_ } | Select-Object -Unique)
}

function Get-DrtestIdentity {
    $tag = Get-DrtestSmbios 2 8
    $imds = ''
    if (-not $tag.StartsWith('i-')) { $imds = Get-DrtestImds }
    $serials = @(Get-DrtestRootSerials)
    $boot = Get-DrtestBoot
    $instance = $imds
    if ($tag.StartsWith('i-')) { $instance = $tag }
    $crypto = 'HKLM:\SOFTWARE\Microsoft\Cryptography'
    return @{
        asset_tag      = $tag
        imds_instance  = $imds
        instance       = $instance
        root_serial    = [string]($serials | Select-Object -First 1)
        root_serials   = $serials
        boot_id        = Get-DrtestTime $boot
        machine_id     = [string](Get-ItemProperty $crypto -ErrorAction SilentlyContinue).MachineGuid
        uptime_seconds = ([DateTime]::UtcNow - $boot.ToUniversalTime()).TotalSeconds
        hostname       = $env:COMPUTERNAME
        kernel         = [Environment]::OSVersion.Version.ToString()
        clock          = ([DateTime]::UtcNow - (New-Object DateTime 1970, 1, 1)).TotalSeconds
        host_keys      = @()
    }
}

function Get-DrtestServices([double]$Settle) {
    # Automatic services that do not run. One that stopped by itself with 0, or that was not tried yet (1077), has
    # not failed; one that starts on a trigger or delayed need not run yet.
    $until = [DateTime]::UtcNow.AddSeconds($Settle)
    while ($true) {
        $all = @(Get-WmiObject Win32_Service -Filter "StartMode='Auto'")
        $pending = @($all | Where-Object { $_.State -eq 'Start Pending' })
        if ($pending.Count -eq 0 -or [DateTime]::UtcNow -ge $until) { break }
        Start-Sleep -Milliseconds 1000
    }
    $failed = @()
    $stopped = @()
    foreach ($one in @($all | Where-Object { $_.State -ne 'Running' })) {
        $key = 'HKLM:\SYSTEM\CurrentControlSet\Services\' + $one.Name
        $delayed = (Get-ItemProperty $key -ErrorAction SilentlyContinue).DelayedAutostart -eq 1
        if ((Test-Path ($key + '\TriggerInfo')) -or $delayed -or [int64]$one.ExitCode -in 0, 1077) {
            $stopped += [string]$one.Name
        } else { $failed += [string]$one.Name }
    }
    $state = 'running'
    if ($failed.Count) { $state = 'degraded' }
    if ($pending.Count) { $state = 'starting' }
    return @{ state = $state; failed_units = $failed; stopped_units = $stopped }
}

function Get-DrtestMounts {
    # Volumes with a letter or a folder; the system's is named by "system".
    $mounts = @()
    foreach ($one in @(Get-WmiObject Win32_Volume -Filter 'DriveType=3')) {
        if (-not $one.FileSystem -or $one.Name.StartsWith('\\?\')) { continue }
        $options = 'rw'
        try { if ([DrtestDisk]::ReadOnlyVolume($one.Name)) { $options = 'ro' } } catch { $options = '' }
        $path = ([string]$one.DeviceID).TrimEnd('\')
        $mounts += @{
            target  = [string]$one.Name
            system  = ([string]$one.DriveLetter -eq $env:SystemDrive)
            source  = $path
            fstype  = ([string]$one.FileSystem).ToLower()
            options = $options
            uuid    = Get-DrtestNtfsSerial ($path -replace '^\\\\\?\\', '\\.\')
            dirty   = [bool]$one.DirtyBitSet
        }
    }
    return $mounts
}

function Get-DrtestVirtualisation {
    $system = Get-WmiObject Win32_ComputerSystem
    return @{
        sys_vendor   = [string]$system.Manufacturer
        product_name = [string]$system.Model
        bios_vendor  = [string](Get-WmiObject Win32_BIOS).Manufacturer
        hypervisor   = [bool]$system.HypervisorPresent
    }
}

function Get-DrtestStorage {
    # What could explain a difference between two captures: storage drivers, and the write-cache policy by disk.
    $found = @()
    foreach ($driver in @(Get-WmiObject Win32_PnPSignedDriver -Filter "DeviceClass='SCSIADAPTER' OR DeviceClass='HDC'")) {
        $found += @{
            driver   = [string]$driver.InfName
            version  = [string]$driver.DriverVersion
            hardware = [string]$driver.HardWareID
        }
    }
    foreach ($disk in @(Get-WmiObject Win32_DiskDrive)) {
        $key = 'HKLM:\SYSTEM\CurrentControlSet\Enum\' + $disk.PNPDeviceID + '\Device Parameters\Disk'
        $policy = Get-ItemProperty $key -ErrorAction SilentlyContinue
        $cache = $null
        if ($null -ne $policy.UserWriteCacheSetting) { $cache = [int]$policy.UserWriteCacheSetting }
        $power = $null
        if ($null -ne $policy.CacheIsPowerProtected) { $power = [int]$policy.CacheIsPowerProtected }
        $found += @{
            disk            = [int]$disk.Index
            serial          = Get-DrtestSerial ([string]$disk.SerialNumber)
            model           = [string]$disk.Model
            write_cache     = $cache
            power_protected = $power
            size            = [long]$disk.Size
        }
    }
    return $found
}
