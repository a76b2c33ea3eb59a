# drtest-probe: windows_booted
# version: 1
# needs: windows_system
# Copy B after its boot: is it the right machine, did it come up, what did it log, are its volumes and disks as they were.

# By provider and id, never by words (facts: Kernel-Power 41, EventLog 6008, Ntfs 55/98/137/140, disk, volsnap, Wininit).
$DrtestEvents = @{
    'System'      = @(5, 7, 8, 9, 11, 14, 21, 25, 41, 51, 55, 98, 129, 130, 137, 140, 153, 6008)
    'Application' = @(1001, 26212, 26226)
}
$DrtestProviders = @('Microsoft-Windows-Kernel-Power', 'EventLog', 'Ntfs', 'Microsoft-Windows-Ntfs', 'disk', 'volsnap',
    'stornvme', 'nvme', 'Microsoft-Windows-Wininit', 'Chkdsk', 'Microsoft-Windows-Chkdsk',
    'Microsoft-Windows-Kernel-General')
$DrtestNumbers = @('CorruptionActionState', 'BugcheckCode')
$DrtestOfVolumes = @('Ntfs', 'Microsoft-Windows-Ntfs')

function Get-DrtestLogged([hashtable]$Filter) {
    # None is an answer; any other failure must not look like it.
    try { return @(Get-WinEvent -FilterHashtable $Filter -ErrorAction Stop) }
    catch {
        if ($_.FullyQualifiedErrorId -notlike 'NoMatchingEventsFound*') { throw }
        return @()
    }
}

function Get-DrtestEvents([DateTime]$Since) {
    $groups = @{}
    foreach ($log in $DrtestEvents.Keys) {
        # A log that can't be read must not look like one with nothing in it.
        $null = Get-WinEvent -ListLog $log
        $filter = @{ LogName = $log; Id = $DrtestEvents[$log]; StartTime = $Since }
        foreach ($one in @(Get-DrtestLogged $filter)) {
            if ($DrtestProviders -notcontains $one.ProviderName) { continue }
            $data = @{}
            $drive = ''
            $logged = ([xml]$one.ToXml()).Event
            foreach ($field in @($logged.EventData.Data)) {
                # A field without a name is a text of its own.
                $text = [string]$field.'#text'
                if ($field -is [string]) { $text = $field }
                $number = 0
                if ($field.Name -in $DrtestNumbers -and [int]::TryParse($text, [ref]$number)) {
                    $data[[string]$field.Name] = $number
                }
                # DriveName, VolumeName, VolumeId: by its shape, as its name changed from one Windows to the next.
                if ($DrtestOfVolumes -contains $one.ProviderName -and $text.Trim() -match '^[A-Za-z]:\\?$') {
                    $drive = $text.Trim().Substring(0, 2).ToUpperInvariant()
                }
            }
            $key = '{0}|{1}|{2}|{3}' -f $one.ProviderName, $one.Id, $data['CorruptionActionState'], $drive
            if (-not $groups.ContainsKey($key)) {
                $groups[$key] = @{
                    provider = [string]$one.ProviderName; id = [int]$one.Id; count = 0; first = $one.TimeCreated
                    data = $data; drive = $drive
                }
            }
            $groups[$key]['count'] += 1
            if ($one.TimeCreated -lt $groups[$key]['first']) { $groups[$key]['first'] = $one.TimeCreated }
        }
    }
    foreach ($group in @($groups.Values)) {
        @{
            provider = $group['provider']
            id       = $group['id']
            count    = $group['count']
            first_at = Get-DrtestTime $group['first']
            data     = $group['data']
            drive    = $group['drive']
        }
    }
}

function Get-DrtestWriters([double]$Seconds) {
    # vssadmin speaks the guest's language: only ids and the number in brackets are read. 1 is stable.
    $ran = Invoke-DrtestTool 'vssadmin.exe' 'list writers' $Seconds
    $writers = @()
    $pattern = '(?s)\{([0-9a-fA-F-]{36})\}.*?\{[0-9a-fA-F-]{36}\}.*?\[(\d+)\]'
    foreach ($match in [Text.RegularExpressions.Regex]::Matches($ran.output, $pattern)) {
        $writers += @{ id = $match.Groups[1].Value.ToLower(); state = [int]$match.Groups[2].Value }
    }
    return @{ exit = $ran.exit; writers = $writers; error = $ran.error }
}

function Get-DrtestVolumes($Arguments) {
    # The dirty bit, and a scan as its number: 0 is no error found; it writes what it finds to $corrupt of this copy.
    $found = @()
    foreach ($one in @(Get-DrtestMounts | Where-Object { $_.fstype -eq 'ntfs' -and $_.target.Length -eq 3 })) {
        $scan = $null
        $problem = ''
        if ($Arguments.scan -and (Get-DrtestLeft $Arguments) -gt 30) {
            try { $scan = [int](Repair-Volume -DriveLetter $one.target.Substring(0, 1) -Scan) }
            catch { $problem = Get-DrtestProblem $_ }
        }
        $found += @{ target = $one.target; uuid = $one.uuid; dirty = $one.dirty; scan = $scan; error = $problem }
    }
    $manager = Get-ItemProperty 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager'
    $usual = @($manager.BootExecute | Where-Object { $_ -and $_ -notmatch '^autocheck autochk (/q /v )?\*$' })
    return @{ volumes = $found; pending = @($usual | ForEach-Object { [string]$_ }) }
}

function Get-DrtestObservations($Arguments) {
    $settle = [double]$Arguments.settle
    Get-DrtestSeen 'boot.identity' $null 'SMBIOS; Get-Disk; Win32_OperatingSystem' { Get-DrtestIdentity }
    Get-DrtestSeen 'boot.system' $null "Win32_Service where StartMode='Auto'" { Get-DrtestServices $settle }
    Get-DrtestSeen 'boot.mounts' $null 'Win32_Volume' { @{ mounts = @(Get-DrtestMounts) } }
    Get-DrtestSeen 'boot.events' $null 'Get-WinEvent System, Application since boot' {
        $since = (Get-DrtestBoot).AddSeconds(-60)
        @{ since = (Get-DrtestTime $since); events = @(Get-DrtestEvents $since) }
    }
    Get-DrtestSeen 'boot.disks' $null 'Get-Disk; storage drivers' {
        @{
            disks          = @(Get-DrtestDisks)
            storage        = @(Get-DrtestStorage)
            virtualisation = Get-DrtestVirtualisation
        }
    }
    Get-DrtestSeen 'boot.vss' $null 'vssadmin list writers' { Get-DrtestWriters 60 }
    Get-DrtestSeen 'boot.volumes' $null 'Win32_Volume.DirtyBitSet; Repair-Volume -Scan; BootExecute' {
        Get-DrtestVolumes $Arguments
    }
}
