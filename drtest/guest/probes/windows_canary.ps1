# drtest-probe: windows_canary
# version: 1
# needs: windows_record
# The canary in .NET: its load, and what of it is there. Compiled by the csc of .NET Framework 4, so C# 5.

$DrtestCanarySource = @'

// The canary of one volume, open for writing: through the cache, and flushed, before anything is said of it.
public sealed class DrtestPlace : IDisposable
{
    public readonly int Number;
    public readonly long Capacity;
    readonly string series, volume, folder;
    readonly FileStream file;

    public DrtestPlace(int number, string volume, string directory, string series)
    {
        Number = number;
        this.volume = volume;
        this.series = series;
        folder = Path.Combine(directory, "meta");
        file = Open(Path.Combine(directory, "records.bin"), FileMode.Open);
        Capacity = file.Length / DrtestRecord.Bytes;
    }

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    static extern bool MoveFileEx(string from, string to, uint how);

    static FileStream Open(string path, FileMode mode)
    {
        return new FileStream(path, mode, FileAccess.Write, FileShare.Read, 512, FileOptions.WriteThrough);
    }

    DrtestRecord Record(int kind, long place, long n, long time)
    {
        DrtestRecord one = new DrtestRecord();
        one.Kind = kind; one.Place = place; one.N = n; one.Time = time;
        one.Series = series; one.Volume = volume;
        return one;
    }

    public void Write(long index, long n, long time)
    {
        file.Seek(index * DrtestRecord.Bytes, SeekOrigin.Begin);
        file.Write(Record(DrtestRecord.InPlace, index, n, time).Encode(), 0, DrtestRecord.Bytes);
        file.Flush(true); // FlushFileBuffers
    }

    // Create, flush, replace. NTFS has no flush of a folder: its log is written with the next flush of a file.
    public void Rename(long operation, long n, long time)
    {
        string made = Path.Combine(folder, "new");
        string slot = Path.Combine(folder, (operation % DrtestRecord.Slots).ToString());
        using (FileStream one = Open(made, FileMode.Create))
        {
            one.Write(Record(DrtestRecord.Metadata, operation, n, time).Encode(), 0, DrtestRecord.Bytes);
            one.Flush(true);
        }
        // MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH: one step, so the slot is never without its file.
        if (!MoveFileEx(made, slot, 9)) throw new Win32Exception(Marshal.GetLastWin32Error());
        using (FileStream one = new FileStream(slot, FileMode.Open, FileAccess.ReadWrite, FileShare.Read)) one.Flush(true);
        file.Flush(true);
    }

    public void Dispose() { file.Dispose(); }
}

// The load: lines as those of load.py, the clock the runner's.
public sealed class DrtestLoad
{
    readonly List<DrtestPlace> places = new List<DrtestPlace>();
    readonly double rate, most;
    readonly TextWriter says;
    readonly ManualResetEvent stop = new ManualResetEvent(false);
    readonly Stopwatch since = new Stopwatch();
    long ahead;
    Thread worker;

    public DrtestLoad(TextWriter says, double rate, double most) { this.says = says; this.rate = rate; this.most = most; }

    public void Add(string volume, string directory, string series)
    {
        places.Add(new DrtestPlace(places.Count, volume, directory, series));
    }

    public List<long> Capacities()
    {
        List<long> all = new List<long>();
        foreach (DrtestPlace one in places) all.Add(one.Capacity);
        return all;
    }

    void Say(string line) { says.Write(line + "\n"); says.Flush(); }

    public void Tell(string line)
    {
        string[] words = line.Trim().Split(' ');
        if (worker == null && words.Length == 2 && words[0] == "go")
        {
            ahead = long.Parse(words[1]);
            since.Start();
            worker = new Thread(Work);
            worker.Start();
        }
        else if (words[0] == "stop") stop.Set();
    }

    public void Stop()
    {
        stop.Set();
        if (worker == null) Say("end {\"reason\": \"never begun\", \"records\": 0}");
        else worker.Join();
        foreach (DrtestPlace one in places) one.Dispose();
    }

    long Now() { return ahead + (long)(since.Elapsed.Ticks * 100L); }

    void Work()
    {
        long written = 0;
        string reason = "stopped";
        try
        {
            double due = 0;
            while (!stop.WaitOne(0))
            {
                if (since.Elapsed.TotalSeconds >= most) { reason = "limit"; break; }
                DrtestPlace place = places[(int)(written % places.Count)];
                long index = written / places.Count;
                if (index >= place.Capacity) { reason = "full"; break; }
                long time = Now();
                place.Write(index, written, time);
                Say(string.Format("r {0} {1} {2} {3}", place.Number, index, written, time));
                if (index % DrtestRecord.Every == DrtestRecord.Every - 1)
                {
                    long operation = index / DrtestRecord.Every;
                    time = Now();
                    place.Rename(operation, written, time);
                    Say(string.Format("m {0} {1} {2}", place.Number, operation, time));
                }
                written++;
                due = Math.Max(due + 1 / rate, since.Elapsed.TotalSeconds - 1);
                int wait = (int)((due - since.Elapsed.TotalSeconds) * 1000);
                if (wait > 0) stop.WaitOne(wait);
            }
        }
        catch (Exception problem)
        {
            // HRESULT and type: the words are in the guest's language.
            reason = "error: " + problem.GetType().Name + " 0x" + problem.HResult.ToString("x8");
        }
        Say("end {\"reason\": \"" + reason + "\", \"records\": " + written + "}");
    }
}

// What of a canary is there, as found.py tells it.
public sealed class DrtestFound
{
    public bool Present;
    public string Reason = "", Series = "", Error = "";
    public long Capacity, Last = -1;
    public List<long> Intact = new List<long>(), Torn = new List<long>(), Foreign = new List<long>();
    public List<long> Stale = new List<long>(), Done = new List<long>(), Spoiled = new List<long>();

    string owner = "";

    public static DrtestFound Look(string directory, string volume, string series)
    {
        DrtestFound found = new DrtestFound();
        found.Series = series ?? "";
        string path = Path.Combine(directory, "records.bin");
        if (!File.Exists(path)) { found.Reason = "records.bin is not there"; return found; }
        found.Present = true;
        try { found.Records(path, volume); found.Files(Path.Combine(directory, "meta")); }
        catch (Exception problem)
        {
            found.Error = problem.GetType().Name + " 0x" + problem.HResult.ToString("x8") + " " + problem.Message;
        }
        return found;
    }

    void Records(string path, string volume)
    {
        SortedDictionary<long, DrtestRecord> whole = new SortedDictionary<long, DrtestRecord>();
        using (FileStream file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
        {
            Capacity = file.Length / DrtestRecord.Bytes;
            byte[] data = new byte[DrtestRecord.Bytes];
            for (long index = 0; index * DrtestRecord.Bytes < file.Length; index++)
            {
                int got = 0, more;
                while (got < data.Length && (more = file.Read(data, got, data.Length - got)) > 0) got += more;
                bool blank = true;
                for (int i = 0; i < got && blank; i++) blank = data[i] == 0;
                if (blank) continue;
                DrtestRecord one = got == data.Length ? DrtestRecord.Decode(data, 0) : null;
                if (one == null) Torn.Add(index); else whole[index] = one;
            }
        }
        if (Series == "")
        {
            DrtestRecord newest = null;
            foreach (DrtestRecord one in whole.Values) if (newest == null || one.Time > newest.Time) newest = one;
            if (newest != null) { Series = newest.Series; if (string.IsNullOrEmpty(volume)) volume = newest.Volume; }
        }
        foreach (KeyValuePair<long, DrtestRecord> pair in whole)
        {
            DrtestRecord one = pair.Value;
            if (one.Series != Series) Stale.Add(pair.Key);
            else if (one.Volume != volume || one.Place != pair.Key || one.Kind != DrtestRecord.InPlace) Foreign.Add(pair.Key);
            else { Intact.Add(pair.Key); Last = Math.Max(Last, one.Time); }
        }
        owner = volume;
    }

    void Files(string folder)
    {
        if (!Directory.Exists(folder)) return;
        foreach (string path in Directory.GetFiles(folder))
        {
            long slot;
            if (!long.TryParse(Path.GetFileName(path), out slot)) continue; // never acknowledged
            byte[] data = File.ReadAllBytes(path);
            DrtestRecord one = data.Length == DrtestRecord.Bytes ? DrtestRecord.Decode(data, 0) : null;
            if (one == null || one.Volume != owner || one.Kind != DrtestRecord.Metadata
                || one.Place % DrtestRecord.Slots != slot) Spoiled.Add(slot);
            else if (one.Series == Series)
                for (long done = slot; done <= one.Place; done += DrtestRecord.Slots) Done.Add(done);
        }
    }

    // Numbers as inclusive ranges, flat: first, last, first, last.
    public static List<long> Ranges(List<long> numbers)
    {
        numbers.Sort();
        List<long> ranges = new List<long>();
        foreach (long number in numbers)
        {
            int end = ranges.Count - 1;
            if (end > 0 && number <= ranges[end] + 1) ranges[end] = Math.Max(ranges[end], number);
            else { ranges.Add(number); ranges.Add(number); }
        }
        return ranges;
    }
}
'@
Add-Type -TypeDefinition ($DrtestRecordSource + $DrtestCanarySource) -Language CSharp

$DrtestFolder = '.drtest-canary'

function Get-DrtestCanary([string]$Top, [string]$Inside, [string]$Volume, [string]$Series) {
    # The canary below a mounted volume; ranges are flat here and paired by the runner.
    $places = @('/.drtest-canary', '/var/lib/drtest-canary', '/root/.drtest-canary')
    if ($Inside) { $places = @($Inside) }
    $there = @($places | ForEach-Object { $Top.TrimEnd('\') + ($_ -replace '/', '\') } |
            Where-Object { [IO.Directory]::Exists($_) })
    $directory = $Top
    if ($there.Count) { $directory = $there[0] }
    $found = [DrtestFound]::Look($directory, $Volume, $Series)
    $last = $null
    if ($found.Last -ge 0) { $last = $found.Last }
    return @{
        present       = $found.Present
        reason        = $found.Reason
        records       = @([DrtestFound]::Ranges($found.Intact))
        torn          = @($found.Torn | Select-Object -First 1000)
        torn_count    = $found.Torn.Count
        foreign       = @($found.Foreign | Select-Object -First 1000)
        foreign_count = $found.Foreign.Count
        stale         = @([DrtestFound]::Ranges($found.Stale))
        last_time_ns  = $last
        metadata      = @([DrtestFound]::Ranges($found.Done))
        metadata_torn = @($found.Spoiled | Select-Object -First 1000)
        capacity      = $found.Capacity
        series        = $found.Series
        error         = $found.Error
    }
}
