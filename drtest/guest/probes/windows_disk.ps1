# drtest-probe: windows_disk
# version: 1
# Raw bytes of disks and volumes, as they lie: partition tables, NTFS boot sectors, $Volume and $LogFile.
# Compiled by the csc of .NET Framework 4, so C# 5.

$DrtestDiskSource = @'
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

// A disk, a volume or a file, read in whole sectors whatever is asked for.
public sealed class DrtestDisk : IDisposable
{
    const int Sector = 4096;
    readonly FileStream stream;

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    static extern SafeFileHandle CreateFile(
        string name, uint access, uint share, IntPtr security, uint how, uint flags, IntPtr template);

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    static extern bool GetVolumeInformation(
        string root, StringBuilder name, int nameLength, out uint serial, out uint longest, out uint flags,
        StringBuilder system, int systemLength);

    public DrtestDisk(string path)
    {
        if (!path.StartsWith("\\\\"))
        {
            stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, Sector);
            return;
        }
        // GENERIC_READ; shared for reading and writing; OPEN_EXISTING
        SafeFileHandle handle = CreateFile(path, 0x80000000u, 3u, IntPtr.Zero, 3u, 0u, IntPtr.Zero);
        if (handle.IsInvalid) throw new Win32Exception(Marshal.GetLastWin32Error());
        stream = new FileStream(handle, FileAccess.Read, Sector);
    }

    public void Dispose() { stream.Dispose(); }

    public byte[] Read(long offset, int count)
    {
        long first = offset / Sector * Sector;
        int length = (int)((offset + count - first + Sector - 1) / Sector * Sector);
        byte[] whole = new byte[length];
        stream.Seek(first, SeekOrigin.Begin);
        int got = 0;
        while (got < length)
        {
            int more = stream.Read(whole, got, length - got);
            if (more <= 0) break;
            got += more;
        }
        if (got < offset - first + count) throw new EndOfStreamException("the disk ends before " + (offset + count));
        byte[] part = new byte[count];
        Array.Copy(whole, offset - first, part, 0, count);
        return part;
    }

    public static bool IsBlank(byte[] data)
    {
        foreach (byte one in data) if (one != 0) return false;
        return true;
    }

    // FILE_READ_ONLY_VOLUME
    public static bool ReadOnlyVolume(string root)
    {
        uint serial, longest, flags;
        if (!GetVolumeInformation(root, null, 0, out serial, out longest, out flags, null, 0))
            throw new Win32Exception(Marshal.GetLastWin32Error());
        return (flags & 0x80000u) != 0;
    }
}

public sealed class DrtestPartition
{
    public int Number;
    public long Start;
    public long Size;
}

// What a disk's table says: GPT, else MBR.
public sealed class DrtestTable
{
    public string Style = "raw";
    public long Signature;
    public string Id = "";
    public List<DrtestPartition> Partitions = new List<DrtestPartition>();

    public static DrtestTable Of(DrtestDisk disk)
    {
        DrtestTable table = new DrtestTable();
        byte[] mbr = disk.Read(0, 512);
        if (mbr[510] != 0x55 || mbr[511] != 0xAA) return table;
        if (Encoding.ASCII.GetString(mbr, 3, 8) == "NTFS    ") { table.Style = "none"; return table; }
        for (int i = 0; i < 4; i++)
        {
            if (mbr[446 + 16 * i + 4] == 0xEE) { table.Gpt(disk); return table; }
        }
        table.Style = "mbr";
        table.Signature = BitConverter.ToUInt32(mbr, 0x1B8);
        for (int i = 0; i < 4; i++)
        {
            int place = 446 + 16 * i;
            long start = BitConverter.ToUInt32(mbr, place + 8), size = BitConverter.ToUInt32(mbr, place + 12);
            if (mbr[place + 4] != 0 && size != 0) table.Add(i + 1, start * 512, size * 512);
        }
        return table;
    }

    void Gpt(DrtestDisk disk)
    {
        byte[] head = disk.Read(512, 92);
        if (Encoding.ASCII.GetString(head, 0, 8) != "EFI PART") return;
        Style = "gpt";
        byte[] id = new byte[16];
        Array.Copy(head, 56, id, 0, 16);
        Id = new Guid(id).ToString();
        long entries = BitConverter.ToInt64(head, 72);
        int count = BitConverter.ToInt32(head, 80), length = BitConverter.ToInt32(head, 84);
        if (length < 128 || length > 4096 || count < 0 || count > 1024) return;
        byte[] data = disk.Read(entries * 512, count * length);
        for (int i = 0; i < count; i++)
        {
            byte[] kind = new byte[16];
            Array.Copy(data, i * length, kind, 0, 16);
            if (DrtestDisk.IsBlank(kind)) continue;
            long first = BitConverter.ToInt64(data, i * length + 32), last = BitConverter.ToInt64(data, i * length + 40);
            Add(i + 1, first * 512, (last - first + 1) * 512);
        }
    }

    void Add(int number, long start, long size)
    {
        DrtestPartition one = new DrtestPartition();
        one.Number = number;
        one.Start = start;
        one.Size = size;
        Partitions.Add(one);
    }
}

// An NTFS volume by its bytes, never mounted. What can't be read is in Problem, and Flags and LogClean say -1.
public sealed class DrtestNtfs
{
    public bool Recognised;
    public string Serial = "";
    public int Flags = -1;      // $VOLUME_INFORMATION: 1 dirty
    public int LogClean = -1;   // 1 cleanly closed, 0 to be replayed
    public string Problem = "";

    DrtestDisk disk;
    long start;
    int sector, cluster, record;
    long table;

    public static DrtestNtfs At(DrtestDisk disk, long start)
    {
        DrtestNtfs found = new DrtestNtfs();
        found.disk = disk;
        found.start = start;
        try { found.Look(); }
        catch (Exception problem) { found.Problem = problem.Message; }
        return found;
    }

    void Look()
    {
        byte[] boot = disk.Read(start, 512);
        if (Encoding.ASCII.GetString(boot, 3, 8) != "NTFS    ") return;
        Recognised = true;
        Serial = BitConverter.ToUInt64(boot, 0x48).ToString("X16");
        sector = BitConverter.ToUInt16(boot, 0x0B);
        int perCluster = boot[0x0D] <= 128 ? boot[0x0D] : 1 << (256 - boot[0x0D]);
        cluster = sector * perCluster;
        sbyte size = (sbyte)boot[0x40];
        record = size > 0 ? size * cluster : 1 << -size;
        table = BitConverter.ToInt64(boot, 0x30);
        if (sector < 512 || cluster <= 0 || record < 512 || record > 65536 || table <= 0)
            throw new InvalidDataException("its boot sector has impossible numbers");
        byte[] volume = Record(3);
        int place = Attribute(volume, 0x70);
        Flags = BitConverter.ToUInt16(volume, place + BitConverter.ToUInt16(volume, place + 0x14) + 0x0A);
        byte[] log = Record(2);
        LogClean = Log(FirstRun(log, Attribute(log, 0x80)));
    }

    byte[] Record(int number)
    {
        byte[] data = disk.Read(start + table * cluster + (long)number * record, record);
        if (Encoding.ASCII.GetString(data, 0, 4) != "FILE")
            throw new InvalidDataException("record " + number + " of its MFT is none");
        Fix(data, record);
        return data;
    }

    // The last two bytes of each sector are kept elsewhere, to show a torn write.
    static void Fix(byte[] data, int length)
    {
        int from = BitConverter.ToUInt16(data, 4), count = BitConverter.ToUInt16(data, 6) - 1;
        for (int i = 0; i < count && (i + 1) * 512 <= length; i++)
        {
            int end = (i + 1) * 512 - 2;
            if (data[end] != data[from] || data[end + 1] != data[from + 1])
                throw new InvalidDataException("a structure of it is torn");
            data[end] = data[from + 2 + 2 * i];
            data[end + 1] = data[from + 3 + 2 * i];
        }
    }

    static int Attribute(byte[] data, uint kind)
    {
        int place = BitConverter.ToUInt16(data, 0x14);
        while (place >= 0 && place + 24 < data.Length)
        {
            uint found = BitConverter.ToUInt32(data, place);
            if (found == kind && data[place + 9] == 0) return place;
            int length = BitConverter.ToInt32(data, place + 4);
            if (found == 0xFFFFFFFF || length <= 0) break;
            place += length;
        }
        throw new InvalidDataException("an attribute of it is missing");
    }

    long FirstRun(byte[] data, int place)
    {
        if (data[place + 8] == 0) throw new InvalidDataException("its log is no file of its own");
        int run = place + BitConverter.ToUInt16(data, place + 0x20);
        int lengths = data[run] & 15, offsets = data[run] >> 4;
        long first = 0;
        for (int i = offsets - 1; i >= 0; i--) first = first << 8 | data[run + 1 + lengths + i];
        return first;
    }

    // The newer of the two restart pages decides; a log that was never written to is all ones.
    int Log(long first)
    {
        int clean = -1;
        long newest = -1;
        for (int page = 0; page < 2; page++)
        {
            byte[] data = disk.Read(start + first * cluster + page * 4096, 4096);
            string magic = Encoding.ASCII.GetString(data, 0, 4);
            if (BitConverter.ToUInt32(data, 0) == 0xFFFFFFFF) { if (clean < 0) clean = 1; continue; }
            if (magic != "RSTR" && magic != "CHKD") continue;
            Fix(data, 4096);
            int area = BitConverter.ToUInt16(data, 24);
            if (area < 30 || area > 4096 - 48) continue;
            long lsn = BitConverter.ToInt64(data, area);
            if (lsn < newest) continue;
            newest = lsn;
            bool nobody = BitConverter.ToUInt16(data, area + 12) == 0xFFFF;
            bool closed = (BitConverter.ToUInt16(data, area + 14) & 2) != 0;
            clean = nobody || closed || magic == "CHKD" ? 1 : 0;
        }
        return clean;
    }
}
'@
Add-Type -TypeDefinition $DrtestDiskSource -Language CSharp

function Get-DrtestSerial([string]$Text) {
    # The NVMe driver of AWS shows "vol0123..._00000001.", others the bare serial.
    if ($Text -match '^\s*(vol-?[0-9a-fA-F]+)') { return ($Matches[1] -replace '-', '').ToLower() }
    return $Text.Trim()
}

function Find-DrtestDisk([string]$Volume, [double]$Wait) {
    # The disk of an EBS volume, by its serial; waits for it to appear.
    $wanted = Get-DrtestSerial $Volume
    $until = [DateTime]::UtcNow.AddSeconds($Wait)
    while ($true) {
        $found = @(Get-Disk -ErrorAction SilentlyContinue | Where-Object {
                (Get-DrtestSerial ([string]$_.SerialNumber)) -eq $wanted })
        if ($found.Count -gt 1) { throw ('{0} disks have the serial {1}' -f $found.Count, $wanted) }
        if ($found.Count -eq 1) { return $found[0] }
        if ([DateTime]::UtcNow -ge $until) { throw ('no disk has the serial {0}' -f $wanted) }
        Start-Sleep -Milliseconds 500
        Update-HostStorageCache -ErrorAction SilentlyContinue
    }
}

function Get-DrtestDisks {
    # How the disks are: a disk that is offline by collision of signatures has reason 4.
    foreach ($disk in @(Get-Disk -ErrorAction SilentlyContinue)) {
        @{
            number         = [int]$disk.Number
            serial         = Get-DrtestSerial ([string]$disk.SerialNumber)
            offline        = [bool]$disk.IsOffline
            offline_reason = [int]$disk.OfflineReason
            readonly       = [bool]$disk.IsReadOnly
            signature      = [long]$disk.Signature
            guid           = [string]$disk.Guid
            style          = [int]$disk.PartitionStyle
            size           = [long]$disk.Size
        }
    }
}

function Get-DrtestNtfsSerial([string]$Volume) {
    # The 64 bits that blkid shows too, from the boot sector; empty where it is no NTFS.
    try {
        $disk = New-Object DrtestDisk $Volume
        try { return ([DrtestNtfs]::At($disk, 0)).Serial } finally { $disk.Dispose() }
    } catch { return '' }
}
