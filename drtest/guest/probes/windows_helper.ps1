# drtest-probe: windows_helper
# version: 1
# needs: windows_system
# A helper before anything is attached: disks stay offline as they come, nothing formats them or gives them a letter.

function Get-DrtestObservations($Arguments) {
    Get-DrtestSeen 'helper.ready' $null 'Set-StorageSetting -NewDiskPolicy OfflineAll; mountvol /N' {
        Set-StorageSetting -NewDiskPolicy OfflineAll
        $ran = Invoke-DrtestTool 'mountvol.exe' '/N' 30
        # EC2Launch takes what it does not know for empty, and formats it (its initializeVolume runs at each boot).
        $tasks = @(Get-ScheduledTask -ErrorAction SilentlyContinue | Where-Object {
                $_.TaskName -like '*initialize*disk*' -or $_.TaskName -like '*initializeVolume*' })
        $tasks | ForEach-Object { $null = Disable-ScheduledTask -InputObject $_ -ErrorAction SilentlyContinue }
        $data = Get-DrtestIdentity
        $data.policy = [int](Get-StorageSetting).NewDiskPolicy
        $data.automount = $ran.exit
        $data.masked = @($tasks | ForEach-Object { [string]$_.TaskName })
        $data.disks = @(Get-DrtestDisks)
        $data.release = [string](Get-WmiObject Win32_OperatingSystem).Version
        $data
    }
}
