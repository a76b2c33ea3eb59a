# drtest-probe: windows_record
# version: 1
# The canary's record in .NET, byte for byte that of record.py. Compiled by the csc of .NET Framework 4, so C# 5;
# together with windows_canary, since types compiled in memory can't be referred to by others.

$DrtestRecordSource = @'
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Threading;

// One record, see record.py for its layout.
public sealed class DrtestRecord
{
    public const int Bytes = 512;
    public const int InPlace = 0, Metadata = 1;
    public const int Slots = 256, Every = 10;
    static readonly byte[] Magic = Encoding.ASCII.GetBytes("DRTCNRY1");
    static readonly uint[] Crc = MakeCrc();

    public int Kind;
    public long Place, N, Time;
    public string Series = "", Volume = "";

    public byte[] Encode()
    {
        byte[] data = new byte[Bytes];
        Magic.CopyTo(data, 0);
        Put(data, 8, 1, 2);
        Put(data, 10, Kind, 2);
        Put(data, 12, Bytes, 4);
        Put(data, 16, Place, 8);
        Put(data, 24, N, 8);
        Put(data, 32, Time, 8);
        if (Series.Length != 32) throw new ArgumentException("a series is 32 hex digits");
        for (int i = 0; i < 16; i++) data[40 + i] = Convert.ToByte(Series.Substring(2 * i, 2), 16);
        byte[] volume = Encoding.ASCII.GetBytes(Volume);
        if (volume.Length == 0 || volume.Length > 32) throw new ArgumentException("the volume's id does not fit");
        volume.CopyTo(data, 56);
        using (SHA256 hash = SHA256.Create())
        {
            byte[] digest = hash.ComputeHash(data, 0, 88);
            for (int i = 0; i < 388; i++) data[88 + i] = digest[i % 32];
            Put(data, 476, Sum(data, 476), 4);
            hash.ComputeHash(data, 0, 480).CopyTo(data, 480);
        }
        return data;
    }

    // Null where the 512 bytes are not one whole record.
    public static DrtestRecord Decode(byte[] all, int from)
    {
        for (int i = 0; i < 8; i++) if (all[from + i] != Magic[i]) return null;
        using (SHA256 hash = SHA256.Create())
        {
            byte[] digest = hash.ComputeHash(all, from, 480);
            for (int i = 0; i < 32; i++) if (all[from + 480 + i] != digest[i]) return null;
        }
        if (BitConverter.ToUInt16(all, from + 8) != 1 || BitConverter.ToUInt32(all, from + 12) != Bytes) return null;
        DrtestRecord one = new DrtestRecord();
        one.Kind = BitConverter.ToUInt16(all, from + 10);
        one.Place = BitConverter.ToInt64(all, from + 16);
        one.N = BitConverter.ToInt64(all, from + 24);
        one.Time = BitConverter.ToInt64(all, from + 32);
        StringBuilder series = new StringBuilder();
        for (int i = 0; i < 16; i++) series.Append(all[from + 40 + i].ToString("x2"));
        one.Series = series.ToString();
        one.Volume = Encoding.ASCII.GetString(all, from + 56, 32).TrimEnd('\0');
        return one;
    }

    static void Put(byte[] data, int place, long value, int count)
    {
        for (int i = 0; i < count; i++) data[place + i] = (byte)(value >> 8 * i);
    }

    static uint[] MakeCrc()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++) value = (value & 1) != 0 ? 0xEDB88320u ^ value >> 1 : value >> 1;
            table[i] = value;
        }
        return table;
    }

    static uint Sum(byte[] data, int count)
    {
        uint value = 0xFFFFFFFFu;
        for (int i = 0; i < count; i++) value = Crc[(value ^ data[i]) & 255] ^ value >> 8;
        return ~value;
    }
}
'@
