# drtest-probe: windows_baseline
# version: 1
# needs: windows_system
# The source before any capture: what its restored copies are compared with.

function Get-DrtestObservations($Arguments) {
    Get-DrtestSeen 'baseline.system' $null 'Win32_Service; Win32_Volume; Win32_OperatingSystem; SMBIOS' {
        $data = Get-DrtestIdentity
        $services = Get-DrtestServices ([double]$Arguments.settle)
        foreach ($key in $services.Keys) { $data[$key] = $services[$key] }
        $data.mounts = @(Get-DrtestMounts)
        $data.storage = @(Get-DrtestStorage)
        $data.disks = @(Get-DrtestDisks)
        $data.virtualisation = Get-DrtestVirtualisation
        $data.release = [string](Get-WmiObject Win32_OperatingSystem).Version
        # Refused in preflight: a hibernated system's disks are not all there, and a TPM's keys stay with their machine.
        $power = 'HKLM:\SYSTEM\CurrentControlSet\Control\Power'
        $data.hibernation = ((Get-ItemProperty $power -ErrorAction SilentlyContinue).HibernateEnabled -eq 1)
        $data.bitlocker = @(Get-WmiObject -Namespace root\cimv2\Security\MicrosoftVolumeEncryption `
                -Class Win32_EncryptableVolume -ErrorAction SilentlyContinue |
                Where-Object { $_.ProtectionStatus -ne 0 } | ForEach-Object { [string]$_.DriveLetter })
        $data
    }
}
